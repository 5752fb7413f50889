package listeners

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// origin is a web origin (RFC 6454) taken apart, in lower case and without the
// default port of its scheme; or an entry of WebSocketOptions.Origins, where
// the host may begin with "*." and the port may be "*".
type origin struct{ scheme, host, port string }

func parseOrigin(s string) (origin, error) {
	if s == "null" {
		return origin{scheme: s}, nil
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(s), "://")
	if !ok || scheme == "" {
		return origin{}, errors.New("want scheme://host or scheme://host:port")
	}
	if strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/\?#@,"`, r) }) {
		return origin{}, errors.New("only scheme, host and port belong to an origin")
	}
	o := origin{scheme: scheme, host: rest}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		o.host, o.port = rest[:i], rest[i+1:]
	}
	if o.port == map[string]string{"http": "80", "https": "443"}[scheme] {
		o.port = ""
	}
	return o, nil
}

// parseOrigins checks what the options say about origins.
func parseOrigins(opts WebSocketOptions) ([]origin, error) {
	if opts.AllowAnyOrigin && len(opts.Origins) > 0 {
		return nil, errors.New("options AllowAnyOrigin and Origins contradict each other")
	}
	var list []origin
	for _, s := range opts.Origins {
		o, err := parseOrigin(s)
		name := strings.TrimPrefix(o.host, "*.")
		switch {
		case err != nil:
		case strings.Contains(o.scheme+name, "*") || name == "" && o.host != "",
			strings.Contains(o.port, "*") && o.port != "*":
			err = errors.New(`a * is possible as the first label of the host and as the port`)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %q of Origins: %w", s, err)
		}
		list = append(list, o)
	}
	return list, nil
}

// mayConnect reports whether the page that sent the request, if it was one, may
// connect.
func (s *WebSocket) mayConnect(r *http.Request) bool {
	sent := r.Header.Values("Origin")
	if len(sent) == 0 || s.opts.AllowAnyOrigin {
		return true
	}
	o, err := parseOrigin(sent[0])
	if err != nil || len(sent) > 1 {
		return false
	}
	if len(s.opts.Origins) == 0 {
		return o.isOf(r)
	}
	for _, allowed := range s.origins {
		if allowed.covers(o) {
			return true
		}
	}
	return false
}

// isOf reports whether the request was sent to the origin itself. Without TLS
// here the scheme is not known: a proxy may have ended it.
func (o origin) isOf(r *http.Request) bool {
	if o.scheme != "https" && (o.scheme != "http" || r.TLS != nil) {
		return false
	}
	own, err := parseOrigin(o.scheme + "://" + r.Host)
	return err == nil && own == o && o.host != ""
}

// covers reports whether an entry of the list stands for the origin.
func (o origin) covers(other origin) bool {
	if o.scheme != other.scheme || o.port != "*" && o.port != other.port {
		return false
	}
	if below, ok := strings.CutPrefix(o.host, "*"); ok {
		return strings.HasSuffix(other.host, below) && len(other.host) > len(below)
	}
	return o.host == other.host
}
