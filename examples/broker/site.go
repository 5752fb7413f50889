package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/httpauth"
)

// site is what is said of a web service that decides about clients.
type site struct {
	url       string
	tokenFile string
	plain     bool // http to another machine is meant
	rights    bool // it also decides what clients may do
	timeout   time.Duration
	after     int           // questions without an answer in a row before it is paused
	pause     time.Duration // how long
}

func (s *site) keys() keys {
	return keys{
		"url":            &s.url,
		"tokenFile":      &s.tokenFile,
		"allowPlainHTTP": &s.plain,
		"rights":         &s.rights,
		"timeout":        (*duration)(&s.timeout),
		"pauseAfter":     &s.after,
		"pauseFor":       (*duration)(&s.pause),
	}
}

func (a *access) readSite(c *config) (err error) {
	if c.site.url == "" {
		return nil
	}
	token, err := c.site.token()
	if err != nil {
		return err
	}
	a.site, err = httpauth.New(httpauth.Options{
		URL: c.site.url, Token: token, AllowPlainHTTP: c.site.plain, Timeout: c.site.timeout,
		PauseAfter: c.site.after, PauseFor: c.site.pause, Logger: a.log,
	})
	return a.read(answers{a.site, &c.site}, err)
}

// token is what the file has now, nil if there is to be none.
func (s *site) token() (petrel.Secret, error) {
	if s.tokenFile == "" {
		return nil, nil
	}
	token, err := os.ReadFile(s.tokenFile)
	if err != nil {
		return nil, err
	}
	if token = bytes.TrimSpace(token); len(token) == 0 {
		return nil, fmt.Errorf("%s: there is no token in it", s.tokenFile)
	}
	return token, nil
}

// answers are what the web service has said, which a reload forgets. It also reads
// the token again.
type answers struct {
	of   *httpauth.Service
	site *site
}

func (a answers) Reload() error {
	a.of.ForgetAll()
	token, err := a.site.token()
	if err != nil {
		return err
	}
	if err := a.of.SetToken(token); err != nil {
		return fmt.Errorf("%s: %w", a.site.tokenFile, err)
	}
	return nil
}
