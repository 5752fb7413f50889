package httpauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/petrelmq/petrel"
)

// question is what the service is asked.
type question struct {
	ask      string
	clientID string // for the log
	who      string // the identity, and of a CONNECT the user name: whose answer Forget forgets
	body     []byte // in JSON
	key      key
}

// key stands for a body. It is a hash under a key of the Service, so that no
// password can be tried against what is in memory later.
type key [sha256.Size]byte

// connectBody asks about a CONNECT.
type connectBody struct {
	Ask            string  `json:"ask"`
	ClientID       string  `json:"clientId,omitempty"`
	UserName       *string `json:"userName,omitempty"`
	Password       *string `json:"password,omitempty"`
	PasswordBase64 []byte  `json:"passwordBase64,omitempty"`
	Address        string  `json:"address,omitempty"`
	Listener       string  `json:"listener,omitempty"`
	CommonName     string  `json:"commonName,omitempty"`
}

// accessBody asks about what a client does.
type accessBody struct {
	Ask      string `json:"ask"`
	ClientID string `json:"clientId"`
	Identity string `json:"identity,omitempty"`
	Topic    string `json:"topic,omitempty"`
	Filter   string `json:"filter,omitempty"`
	Share    string `json:"share,omitempty"`
	QoS      byte   `json:"qos"`
	Retain   *bool  `json:"retain,omitempty"`
}

func (s *Service) aboutConnect(r *petrel.ConnectRequest) (*question, error) {
	b := connectBody{Ask: "connect", ClientID: r.ClientID, Address: addressOf(r.Peer.RemoteAddr), Listener: r.Peer.Listener, CommonName: commonName(&r.Peer)}
	if r.AssignedID {
		b.ClientID = "" // another one each time, and of no use to the service
	}
	if r.HasUserName {
		b.UserName = &r.UserName
	}
	if password := string(r.Password); r.HasPassword && utf8.ValidString(password) {
		b.Password = &password
	} else if r.HasPassword {
		b.PasswordBase64 = r.Password
	}
	return s.question(&question{ask: b.Ask, clientID: r.ClientID, who: r.UserName}, &b)
}

func (s *Service) aboutAccess(r *petrel.AccessRequest) (*question, error) {
	b := accessBody{Ask: r.Action.String(), ClientID: r.Client.ID(), Identity: r.Client.Identity(), QoS: byte(r.QoS)}
	switch r.Action {
	case petrel.Subscribe:
		b.Filter, b.Share = r.Topic, r.Share
	case petrel.Publish, petrel.Receive:
		b.Topic, b.Retain = r.Topic, &r.Retain
	default:
		return nil, fmt.Errorf("httpauth: nothing is known of %v", r.Action)
	}
	return s.question(&question{ask: b.Ask, clientID: b.ClientID, who: b.Identity}, &b)
}

// question completes q with its body.
func (s *Service) question(q *question, body any) (*question, error) {
	var err error
	if q.body, err = json.Marshal(body); err != nil {
		return nil, fmt.Errorf("httpauth: encode a question: %w", err)
	}
	h := hmac.New(sha256.New, s.secret[:])
	h.Write(q.body)
	h.Sum(q.key[:0])
	return q, nil
}

// addressOf is the IP address, empty where there is none: the port would make
// every question another one.
func addressOf(a net.Addr) string {
	if a == nil || !strings.HasPrefix(a.Network(), "tcp") {
		return ""
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().String()
}

// commonName is that of a client certificate that somebody has verified.
func commonName(p *petrel.Peer) string {
	switch {
	case p.TLS != nil && len(p.TLS.VerifiedChains) > 0 && len(p.TLS.PeerCertificates) > 0:
		return p.TLS.PeerCertificates[0].Subject.CommonName
	case p.TLS == nil && p.Proxy != nil && p.Proxy.TLS != nil && p.Proxy.TLS.Verified:
		return p.Proxy.TLS.CommonName
	}
	return ""
}
