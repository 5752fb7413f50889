package scram

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// Bounds on what a client sends.
const (
	maximumMessage = 4096 // bytes of a message
	minimumNonce   = 8    // characters of its nonce
)

// exchange is one conversation: client-first-message, server-first-message,
// client-final-message, server-final-message (RFC 5802, section 5).
type exchange struct {
	a    *Authenticator
	must string // the user that it has to be; empty if it may be any

	user       string
	credential Credential
	known      bool
	header     string // GS2 header, as the client sent it
	bare       string // client-first-message-bare
	first      string // server-first-message; empty until it is sent
	nonce      string // of both
	over       bool
}

// Authenticate handles one message of the client.
func (x *exchange) Authenticate(ctx context.Context, data []byte) (step petrel.AuthenticationStep, err error) {
	switch {
	case x.over:
		err = errors.New("scram: a message after the end")
	case len(data) > maximumMessage || !utf8.Valid(data):
		err = errors.New("scram: a message that is too long, or not UTF-8")
	case x.first == "":
		step.Data, err = x.begin(ctx, string(data))
	default:
		x.over = true
		step.Data, err = x.finish(string(data))
		step.Done, step.Identity = true, x.user
	}
	if err != nil {
		x.over = true
		return petrel.AuthenticationStep{}, &packets.Error{Code: packets.NotAuthorized, Err: err}
	}
	return step, nil
}

// begin answers the first message with nonce, salt and iterations.
func (x *exchange) begin(ctx context.Context, message string) (answer []byte, err error) {
	binding, rest, _ := strings.Cut(message, ",")
	authzid, bare, ok := strings.Cut(rest, ",")
	if binding != "n" && binding != "y" || !ok {
		return nil, errors.New("scram: the first message is none, or wants channel binding")
	}
	x.header, x.bare = message[:len(message)-len(bare)], bare
	fields := strings.Split(bare, ",")
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "n=") || !strings.HasPrefix(fields[1], "r=") {
		return nil, errors.New("scram: the first message has no user and nonce in their places, or an extension that is not known")
	}
	if x.user, ok = unescape(fields[0][2:]); !ok {
		return nil, errors.New("scram: the user name is empty, or no user name")
	}
	if authzid != "" {
		as, ok := unescape(strings.TrimPrefix(authzid, "a="))
		if !ok || !strings.HasPrefix(authzid, "a=") || as != x.user {
			return nil, errors.New("scram: the client wants to be somebody else than it proves to be")
		}
	}
	if x.must != "" && x.must != x.user {
		return nil, errors.New("scram: the user is another than that of CONNECT")
	}
	nonce := fields[1][2:]
	if len(nonce) < minimumNonce || strings.ContainsFunc(nonce, func(r rune) bool { return r < '!' || r > '~' }) {
		return nil, errors.New("scram: the nonce of the client is short, or not printable")
	}
	if x.credential, x.known, err = x.a.lookup(ctx, x.user); err != nil {
		return nil, err
	}
	x.nonce = nonce + x.a.nonce()
	x.first = fmt.Sprintf("r=%s,s=%s,i=%d", x.nonce, base64.StdEncoding.EncodeToString(x.credential.Salt), x.credential.Iterations)
	return []byte(x.first), nil
}

// finish checks the proof of the client, and returns the one of the broker.
func (x *exchange) finish(message string) (answer []byte, err error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return nil, errors.New("scram: the final message has no proof")
	}
	without := message[:at]
	proof, err := base64.StdEncoding.Strict().DecodeString(message[at+len(",p="):])
	if err != nil {
		return nil, errors.New("scram: the proof is not base64")
	}
	fields := strings.Split(without, ",")
	if len(fields) < 2 || fields[0] != "c="+base64.StdEncoding.EncodeToString([]byte(x.header)) || fields[1] != "r="+x.nonce {
		return nil, errors.New("scram: the final message does not go with the first")
	}
	messages := x.bare + "," + x.first + "," + without
	if right := x.credential.proves(proof, messages); !right || !x.known {
		return nil, errors.New("scram: the password is wrong, or the user unknown")
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(x.credential.ServerKey[:], messages))), nil
}

// unescape decodes a user name, in which =2C stands for a comma and =3D for an
// equals sign.
func unescape(name string) (string, bool) {
	for rest := name; ; {
		at := strings.IndexByte(rest, '=')
		if at < 0 {
			break
		}
		rest = rest[at+1:]
		if !strings.HasPrefix(rest, "2C") && !strings.HasPrefix(rest, "3D") {
			return "", false
		}
	}
	name = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)
	return name, name != "" && !strings.Contains(name, "\x00")
}
