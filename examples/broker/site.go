package main

import (
	"bytes"
	"os"
	"time"

	"github.com/petrelmq/petrel/hooks/httpauth"
)

// site is what is said of a web service that decides about clients.
type site struct {
	url       string
	tokenFile string
	plain     bool // http to another machine is meant
	rights    bool // it also decides what clients may do
	timeout   time.Duration
}

func (s *site) keys() keys {
	return keys{
		"url":            &s.url,
		"tokenFile":      &s.tokenFile,
		"allowPlainHTTP": &s.plain,
		"rights":         &s.rights,
		"timeout":        (*duration)(&s.timeout),
	}
}

func (a *access) readSite(c *config) (err error) {
	if c.site.url == "" {
		return nil
	}
	options := httpauth.Options{URL: c.site.url, AllowPlainHTTP: c.site.plain, Timeout: c.site.timeout, Logger: a.log}
	if c.site.tokenFile != "" {
		token, err := os.ReadFile(c.site.tokenFile)
		if err != nil {
			return err
		}
		options.Token = bytes.TrimRight(token, "\r\n")
	}
	a.site, err = httpauth.New(options)
	return a.read(answers{a.site}, err)
}

// answers are what the web service has said, which a reload forgets.
type answers struct{ of *httpauth.Service }

func (a answers) Reload() error {
	a.of.ForgetAll()
	return nil
}
