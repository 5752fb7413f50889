package listeners

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// CertificateFiles names the files that [Certificates] are made of, and says how
// clients are asked for theirs.
type CertificateFiles struct {
	// Certificate is a PEM file with the certificate chain of the server, and
	// Key one with its private key. Both are needed.
	Certificate, Key string

	// ClientCA is a PEM file. With it each client must present a certificate
	// that chains to one in the file. Empty means that clients are not asked.
	ClientCA string

	// CRL is a file with certificate revocation lists, in PEM or one in DER; it
	// needs ClientCA. Of each certificate between a client and its authority the
	// issuer must have a list there, signed by it and not past its next update,
	// and the certificate must not be in it. Delta lists, and lists and entries
	// with a critical extension (those that cover a part of the certificates, or
	// certificates of other issuers), are refused when they are loaded. Empty
	// means that nothing is revoked.
	CRL string

	// OptionalClientCertificate also admits clients without a certificate. One
	// that is presented must be valid all the same.
	OptionalClientCertificate bool

	// TolerateExpiredCRL goes on with a list that is past its next update.
	TolerateExpiredCRL bool

	// Base has whatever else is to be in the config, such as MinVersion; it is
	// cloned. Nil means nothing else; a zero MinVersion becomes TLS 1.2. It must
	// have none of what comes from the files or decides about sessions.
	Base *tls.Config
}

// Certificates are what a TLS listener needs of files that may change while it
// runs. Make one with [LoadCertificates]. Its methods may be called at the same
// time from any goroutine.
type Certificates struct {
	files    CertificateFiles
	loaded   atomic.Pointer[loaded]
	failures atomic.Uint64

	mu   sync.Mutex // makes one step of reading and replacing
	seen digest     // of the files when they were read last, good or not
}

type digest [sha256.Size]byte

// loaded is what the files said at one moment. It never changes.
type loaded struct {
	certificate tls.Certificate
	authorities []*x509.Certificate
	roots       *x509.CertPool // of the authorities; nil if clients are not asked for certificates
	revoked     revocations    // nil without lists
	clients     digest         // of all that decides about clients
}

// LoadCertificates reads the files. An error names the file that it is about.
func LoadCertificates(files CertificateFiles) (*Certificates, error) {
	if err := files.check(); err != nil {
		return nil, err
	}
	c := &Certificates{files: files}
	c.files.Base = files.Base.Clone()
	if c.files.Base == nil {
		c.files.Base = new(tls.Config)
	}
	if c.files.Base.MinVersion == 0 {
		c.files.Base.MinVersion = tls.VersionTLS12
	}
	content, err := c.files.read()
	c.seen = content.digest(err)
	if err := c.load(content, err); err != nil {
		return nil, err
	}
	return c, nil
}

// now is the time by which certificates and lists are judged.
func (c *Certificates) now() time.Time {
	if c.files.Base.Time != nil {
		return c.files.Base.Time()
	}
	return time.Now()
}

func (f *CertificateFiles) check() error {
	if f.ClientCA == "" && (f.CRL != "" || f.OptionalClientCertificate) {
		return errors.New("listeners: CertificateFiles: CRL and OptionalClientCertificate need ClientCA")
	}
	b := f.Base
	if b == nil {
		return nil
	}
	if len(b.Certificates) > 0 || b.GetCertificate != nil || b.ClientCAs != nil || b.ClientAuth != tls.NoClientCert ||
		b.GetConfigForClient != nil || b.WrapSession != nil || b.UnwrapSession != nil {
		return errors.New("listeners: CertificateFiles.Base has certificates, authorities, a policy for clients or for sessions of its own")
	}
	return nil
}

// Reload reads the files again. From its return on each handshake uses what they
// say now. Connections that are open stay; [Certificates.Check] says which of them
// are of clients that are not trusted any more. A TLS session from before is resumed only if authorities and
// lists are what they were then. If Reload fails, everything stays as it was, and
// [Certificates.Failures] counts it.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.files.read()
	c.seen = content.digest(err)
	return c.reload(content, err)
}

// reload is load that counts.
func (c *Certificates) reload(content contents, err error) error {
	if err = c.load(content, err); err != nil {
		c.failures.Add(1)
	}
	return err
}

// Failures returns how many times the files were read again in vain.
func (c *Certificates) Failures() uint64 { return c.failures.Load() }

// Watch looks at the files again and again until ctx ends, and reloads them as
// [Certificates.Reload] does when their content has changed. After each such
// attempt it calls report, if that is not nil, with its error or nil. An interval
// of zero means a minute, a negative one that it never looks.
//
// Files that belong together are best replaced at once, by a directory or a link
// that is renamed: a certificate whose key has not come yet is one failure more.
func (c *Certificates) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	if interval == 0 {
		interval = time.Minute
	}
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if tried, err := c.poll(); tried && report != nil {
			report(err)
		}
	}
}

// poll reloads the files if they are not what they were when they were read last.
func (c *Certificates) poll() (tried bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, err := c.files.read()
	now := content.digest(err)
	if now == c.seen {
		return false, nil
	}
	c.seen = now
	return true, c.reload(content, err)
}

// Config returns a config for a server, for [TLS], [WebSocketOptions] or any
// other: each handshake uses what was loaded last. protocols are those for ALPN,
// "mqtt" if there are none; [WebSocketListen] needs "http/1.1". The key of session
// tickets is the config's own, and changes every day.
func (c *Certificates) Config(protocols ...string) *tls.Config {
	if len(protocols) == 0 {
		protocols = []string{alpnMQTT}
	}
	outer := c.files.Base.Clone()
	outer.NextProtos = protocols
	keys := outer.Clone() // a config on which nobody sets keys for tickets
	type made struct {
		of     *loaded
		config *tls.Config
	}
	var last atomic.Pointer[made]
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := c.loaded.Load()
		if m := last.Load(); m != nil && m.of == now {
			return m.config, nil
		}
		m := &made{now, c.configOf(now, keys)}
		last.Store(m)
		return m.config, nil
	}
	return outer
}

// configOf is the config of handshakes while l is what was loaded last.
func (c *Certificates) configOf(l *loaded, keys *tls.Config) *tls.Config {
	config := keys.Clone()
	config.Certificates = []tls.Certificate{l.certificate}
	if l.roots != nil {
		config.ClientCAs = l.roots
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if c.files.OptionalClientCertificate {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	// A resumed session would vouch for a client by what was loaded when it began.
	config.WrapSession = func(state tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		s.Extra = append(s.Extra, l.clients[:])
		return keys.EncryptTicket(state, s)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		s, err := keys.DecryptTicket(ticket, state)
		if err != nil || s == nil || len(s.Extra) != 1 || !bytes.Equal(s.Extra[0], l.clients[:]) {
			return nil, err
		}
		return s, nil
	}
	if l.revoked != nil {
		also := config.VerifyConnection
		config.VerifyConnection = func(state tls.ConnectionState) error { // of resumed sessions too
			if also != nil {
				if err := also(state); err != nil {
					return err
				}
			}
			return l.revoked.check(state.VerifiedChains, c.now(), c.files.TolerateExpiredCRL)
		}
	}
	return config
}

// contents are those of the files, nil of one that has no name.
type contents struct{ certificate, key, clientCA, crl []byte }

func (f *CertificateFiles) read() (c contents, err error) {
	for _, file := range []struct {
		what, name string
		to         *[]byte
		needed     bool
	}{
		{"certificate", f.Certificate, &c.certificate, true},
		{"key", f.Key, &c.key, true},
		{"client CA", f.ClientCA, &c.clientCA, false},
		{"CRL", f.CRL, &c.crl, false},
	} {
		if file.name == "" && !file.needed {
			continue
		}
		b, fault := os.ReadFile(file.name)
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("listeners: load %s: %w", file.what, fault))
		}
		*file.to = b
	}
	return c, err
}

// digest tells contents, and what kept them from being read, from others.
func (c contents) digest(err error) digest {
	return digestOf(c.certificate, c.key, c.clientCA, c.crl, fmt.Append(nil, err))
}

func digestOf(parts ...[]byte) digest {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256(p)
		h.Write(sum[:])
	}
	return digest(h.Sum(nil))
}

// load makes contents what handshakes use, unless there is something wrong with
// them, or with the reading of them.
func (c *Certificates) load(content contents, err error) error {
	if err != nil {
		return err
	}
	f := &c.files
	l := &loaded{clients: digestOf(content.clientCA, content.crl)}
	if l.certificate, err = tls.X509KeyPair(content.certificate, content.key); err != nil {
		return fmt.Errorf("listeners: load certificate %s with key %s: %w", f.Certificate, f.Key, err)
	}
	if f.ClientCA != "" {
		if l.authorities, err = parseAuthorities(content.clientCA); err != nil {
			return fmt.Errorf("listeners: load client CA %s: %w", f.ClientCA, err)
		}
		l.roots = x509.NewCertPool()
		for _, a := range l.authorities {
			l.roots.AddCert(a)
		}
	}
	if f.CRL != "" {
		if l.revoked, err = parseRevocations(content.crl, l.authorities, c.now(), f.TolerateExpiredCRL); err != nil {
			return fmt.Errorf("listeners: load CRL %s: %w", f.CRL, err)
		}
	}
	c.loaded.Store(l)
	return nil
}
