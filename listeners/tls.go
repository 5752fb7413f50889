package listeners

import (
	"crypto/tls"
	"errors"
	"net"
)

// alpnMQTT is the protocol name registered with IANA for MQTT over TLS.
const alpnMQTT = "mqtt"

// TLS listens for MQTT over TLS on addr, for example ":8883".
//
// The config must be able to produce a certificate. It is cloned, so the
// caller keeps it; in the clone an empty NextProtos becomes "mqtt", which
// refuses clients that offer only other protocols, with no_application_protocol
// as RFC 7301, section 3.2, asks for, but not clients that offer none; and a
// zero MinVersion becomes TLS 1.2. A config that GetConfigForClient returns is
// used as it is.
//
// Accept does not wait for the handshake: it happens on the first Read or
// Write of the connection, under that connection's deadlines, and its errors
// appear there. Accepted connections are [*tls.Conn].
func TLS(addr string, config *tls.Config) (net.Listener, error) {
	config, err := serverConfig(config, alpnMQTT)
	if err != nil {
		return nil, err
	}
	l, err := TCP(addr)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, config), nil
}

// TLSFiles is [TLS] with PEM files: the certificate chain of the server in
// certFile and its private key in keyFile. With a clientCAFile, every client
// must present a certificate that chains to one in that file; when it is
// empty, clients are not asked for one. The files are read once, before
// TLSFiles listens; an error names the file it is about. [LoadCertificates] is
// for files that change while the listener is open, and for revocation lists.
func TLSFiles(addr, certFile, keyFile, clientCAFile string) (net.Listener, error) {
	c, err := LoadCertificates(CertificateFiles{Certificate: certFile, Key: keyFile, ClientCA: clientCAFile})
	if err != nil {
		return nil, err
	}
	return TLS(addr, c.Config())
}

// serverConfig returns a copy of config, checked and with defaults filled in.
func serverConfig(config *tls.Config, alpn string) (*tls.Config, error) {
	if config == nil || len(config.Certificates) == 0 &&
		config.GetCertificate == nil && config.GetConfigForClient == nil {
		return nil, errors.New("listeners: TLS config has no certificate")
	}
	config = config.Clone()
	if len(config.NextProtos) == 0 {
		config.NextProtos = []string{alpn}
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	return config, nil
}
