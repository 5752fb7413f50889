package httpauth

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/petrelmq/petrel"
)

// Options configures a [Service].
type Options struct {
	// URL is where the questions go, with http or https. It must be set, and must
	// have no user name or password in it; for these there is Token.
	URL string

	// AllowPlainHTTP allows an http URL to another machine: then passwords go over
	// the network for everybody to read.
	AllowPlainHTTP bool

	// Client asks. What it does about TLS, proxies and connections is its own
	// affair; a redirect is not followed whatever it says. Nil means one that uses no
	// proxy and trusts the certificate authorities of the system.
	Client *http.Client

	// Token is sent with each question as "Authorization: Bearer TOKEN".
	// Empty means that there is no such header.
	Token petrel.Secret

	// Timeout bounds one question: the wait for its turn, the request and its
	// answer. It should be below [petrel.Options.HookTimeout], which bounds it as
	// well. Zero means 2 seconds.
	Timeout time.Duration

	// MaximumConcurrent is how many questions the service has at one time.
	// Zero means 32.
	MaximumConcurrent int

	// MaximumWaiting is how many more wait for their turn. What is above it is
	// refused at once. Zero means 1,024.
	MaximumWaiting int

	// PauseAfter is how many questions in a row the service may leave without an
	// answer: none in time, or no connection. After so many it is not asked for
	// PauseFor, and what is not in the cache is refused at once, so that nobody
	// waits for a timeout and holds up others. Then one question finds out whether
	// it answers again. An answer of any kind, a broken one or the status 500 too,
	// ends the row. Zero means 5; negative means that it is asked whatever happens.
	PauseAfter int

	// PauseFor is how long the service is then not asked. Zero means 5 seconds.
	PauseFor time.Duration

	// Availability is told when the service is not asked any more (false, with why
	// the last question had no answer), and when it is again (true). The log says
	// so as well. It is called while a client waits, and must not block. Nil means
	// that nobody is told.
	Availability func(available bool, err error)

	// AllowFor and DenyFor are how long an answer that allows or denies is used
	// again, if it has no Cache-Control. Zero means 30 seconds and 5 seconds;
	// negative means not at all.
	AllowFor time.Duration
	DenyFor  time.Duration

	// MaximumAge bounds a max-age of the service. Zero means 5 minutes; negative
	// means that max-age is heeded as it is.
	MaximumAge time.Duration

	// CacheEntries bounds the answers that are kept: so many that allow, and so
	// many that deny, each with at most MaximumAnswerSize of rights. What was used
	// last is kept. Zero means 10,000; negative means that none are kept.
	CacheEntries int

	// MaximumAnswerSize bounds the body of an answer in bytes. Zero means 16 KiB.
	MaximumAnswerSize int

	// Logger is told of questions that the service does not answer, with at most
	// one line a second. Nil means [slog.Default].
	Logger *slog.Logger
}

// withDefaults fills in every default.
func (o Options) withDefaults() Options {
	for d, byDefault := range map[*time.Duration]time.Duration{
		&o.Timeout: 2 * time.Second, &o.AllowFor: 30 * time.Second, &o.DenyFor: 5 * time.Second, &o.MaximumAge: 5 * time.Minute,
		&o.PauseFor: 5 * time.Second,
	} {
		if *d == 0 {
			*d = byDefault
		}
	}
	for n, byDefault := range map[*int]int{
		&o.MaximumConcurrent: 32, &o.MaximumWaiting: 1024, &o.CacheEntries: 10_000, &o.MaximumAnswerSize: 16 << 10,
		&o.PauseAfter: 5,
	} {
		if *n == 0 {
			*n = byDefault
		}
	}
	if o.MaximumAge < 0 {
		o.MaximumAge = longest
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// longest is more than any max-age.
const longest = 100 * 365 * 24 * time.Hour

func (o *Options) validate() error {
	if err := checkURL(o.URL, o.AllowPlainHTTP); err != nil {
		return fmt.Errorf("httpauth: Options.URL: %w", err)
	}
	if err := checkToken(o.Token); err != nil {
		return fmt.Errorf("httpauth: Options.Token: %w", err)
	}
	switch {
	case o.PauseFor < 0:
		return fmt.Errorf("httpauth: Options.PauseFor is %v; it must be above 0", o.PauseFor)
	case o.Timeout < 0:
		return fmt.Errorf("httpauth: Options.Timeout is %v; it must be above 0", o.Timeout)
	case o.MaximumConcurrent < 0 || o.MaximumConcurrent > 1<<16:
		return fmt.Errorf("httpauth: Options.MaximumConcurrent is %d; 1 to %d is possible", o.MaximumConcurrent, 1<<16)
	case o.MaximumWaiting < 0:
		return fmt.Errorf("httpauth: Options.MaximumWaiting is %d; it must be above 0", o.MaximumWaiting)
	case o.MaximumAnswerSize < 0:
		return fmt.Errorf("httpauth: Options.MaximumAnswerSize is %d; it must be above 0", o.MaximumAnswerSize)
	}
	return nil
}

func checkToken(token petrel.Secret) error {
	if strings.ContainsFunc(string(token), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("it has characters that no such token has")
	}
	return nil
}

// checkURL says what is wrong with the URL, without quoting it: it might have a
// password where none belongs.
func checkURL(text string, plain bool) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return errors.New("it is empty")
	case err != nil:
		return errors.New("it is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("its scheme is neither https nor http")
	case u.Hostname() == "":
		return errors.New("it names no host")
	case u.User != nil:
		return errors.New("it has a user name or a password; use Options.Token or Options.Client")
	case u.Fragment != "":
		return errors.New("it has a fragment")
	case u.Scheme == "http" && !plain && !isLocal(u.Hostname()):
		return errors.New("it is http to another machine, which shows passwords to the network; set Options.AllowPlainHTTP if that is meant")
	}
	return nil
}

func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// asker is the client that asks. It follows no redirect: what is asked is a secret
// between the broker and the service.
func (o *Options) asker() *http.Client {
	c := http.Client{Transport: &http.Transport{
		DialContext:            (&net.Dialer{Timeout: o.Timeout}).DialContext,
		TLSHandshakeTimeout:    o.Timeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    o.MaximumConcurrent,
		MaxConnsPerHost:        o.MaximumConcurrent,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
	if o.Client != nil {
		c = *o.Client
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}
