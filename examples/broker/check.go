package main

import (
	"fmt"
	"strings"
)

// checkAll reports what is wrong with the configuration as far as that can be
// told without its files. An error begins with the key, or the flag, that is at fault.
func (c *config) checkAll() error {
	if err := c.web.Validate(); err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	for _, d := range c.doors() {
		if err := d.check(c); err != nil {
			return err
		}
	}
	for _, t := range []struct {
		key    string
		needed string // not given
		given  bool
	}{
		{"authentication.scram.saltKeyFile", "authentication.scram.file", c.scram.file == "" && c.scram.saltKeyFile != ""},
		{"authentication.jwt", "authentication.jwt.keysFile", c.jwt.keysFile == "" && c.jwt != (tokens{})},
		{"authentication.http", "authentication.http.url", c.site.url == "" && c.site != (site{})},
	} {
		if t.given {
			return fmt.Errorf("%s: it is of no use without %s", t.key, t.needed)
		}
	}
	return nil
}

// atLimit names the limit that an error of petrel.New is about, if it is about one.
func (c *config) atLimit(err error) error {
	if err == nil {
		return nil
	}
	for key := range c.limitKeys() {
		if strings.Contains(err.Error(), "Options."+strings.ToUpper(key[:1])+key[1:]+" ") {
			return fmt.Errorf("limits.%s: %w", key, err)
		}
	}
	return err
}
