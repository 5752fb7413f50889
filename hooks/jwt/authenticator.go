package jwt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
)

var (
	_ petrel.Authenticator         = (*Authenticator)(nil)
	_ petrel.EnhancedAuthenticator = (*Authenticator)(nil)
)

// Options configures an [Authenticator] and a [Guard].
type Options struct {
	// Keys verify the tokens. They must be set.
	Keys KeySource

	// Issuer and Audience are what the claim iss must be, and what aud must
	// name. Empty means that the claim is not looked at.
	Issuer   string
	Audience string

	// Leeway is by how much the clocks of issuer and broker may differ, for exp
	// and nbf. Zero means that they agree; at most 5 minutes.
	Leeway time.Duration

	// AllowEndless accepts tokens without exp. Their clients stay as long as they like.
	AllowEndless bool

	// FromUserName takes the token from the user name instead of the password.
	// A broker logs no user names, but other hooks and tools may.
	FromUserName bool

	// Identity is the claim that says who the client is. Empty means sub.
	Identity string

	// ClientID is a claim that must be the client identifier. Empty means that
	// a client may choose its identifier.
	ClientID string

	// Method is an Authentication Method of MQTT 5.0 by which clients may also
	// give their token, as Authentication Data: in CONNECT, and later again in an
	// AUTH with 0x19, before the first expires. "OAUTH2-JWT" is one that is in
	// use. Empty means none.
	Method string

	// MaximumTokenSize bounds a token in bytes.
	// Zero means 8 KiB; negative means no limit.
	MaximumTokenSize int
}

// Authenticator is a [petrel.Authenticator] that admits clients with a valid
// token, and makes the claim that [Options] names their identity, whatever user
// name they give. A client without a token is refused with
// [packets.NotAuthorized], one whose token is not valid with
// [packets.BadUserNameOrPassword]. The connection ends when the token does.
type Authenticator struct {
	o      Options
	parser *jwt.Parser
	rights *Rights // nil unless it is that of a Guard
}

// New makes an authenticator. It refuses options that cannot be meant.
func New(o Options) (*Authenticator, error) {
	switch {
	case o.Keys == nil:
		return nil, errors.New("jwt: Options.Keys is nil")
	case o.Leeway < 0 || o.Leeway > 5*time.Minute:
		return nil, fmt.Errorf("jwt: Options.Leeway is %v; 0 to 5m is possible", o.Leeway)
	}
	if o.Identity == "" {
		o.Identity = "sub"
	}
	if o.MaximumTokenSize == 0 {
		o.MaximumTokenSize = 8 << 10
	}
	parse := []jwt.ParserOption{
		jwt.WithValidMethods([]string{string(HS256), string(RS256), string(ES256), string(EdDSA)}),
		jwt.WithLeeway(o.Leeway), jwt.WithStrictDecoding(),
	}
	if o.Issuer != "" {
		parse = append(parse, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" {
		parse = append(parse, jwt.WithAudience(o.Audience))
	}
	if !o.AllowEndless {
		parse = append(parse, jwt.WithExpirationRequired())
	}
	return &Authenticator{o: o, parser: jwt.NewParser(parse...)}, nil
}

// Authenticate admits the client if its token is valid.
func (a *Authenticator) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	token, given := string(r.Password), r.HasPassword
	if a.o.FromUserName {
		token, given = r.UserName, r.HasUserName
	}
	if !given || token == "" {
		return packets.NotAuthorized
	}
	f, err := a.verify(token, r.ClientID)
	if err != nil {
		return refuse(err)
	}
	r.Identity, r.Expires = f.identity, f.expires
	a.grant(r, f)
	return nil
}

// AuthenticationMethods returns the method of the options.
func (a *Authenticator) AuthenticationMethods() []string {
	if a.o.Method == "" {
		return nil
	}
	return []string{a.o.Method}
}

// BeginAuthentication starts an exchange in which the client sends its token, at once.
func (a *Authenticator) BeginAuthentication(_ context.Context, r *petrel.AuthenticationRequest) (petrel.AuthenticationExchange, error) {
	return &exchange{a, r.Connect}, nil
}

type exchange struct {
	a *Authenticator
	r *petrel.ConnectRequest
}

func (x *exchange) Authenticate(_ context.Context, data []byte) (petrel.AuthenticationStep, error) {
	if len(data) == 0 {
		return petrel.AuthenticationStep{}, packets.NotAuthorized
	}
	f, err := x.a.verify(string(data), x.r.ClientID)
	if err != nil {
		return petrel.AuthenticationStep{}, &packets.Error{Code: packets.NotAuthorized, Detail: err.Error()}
	}
	x.a.grant(x.r, f)
	return petrel.AuthenticationStep{Done: true, Identity: f.identity, Expires: f.expires}, nil
}

func refuse(err error) error {
	return &packets.Error{Code: packets.BadUserNameOrPassword, Detail: err.Error()}
}

// findings are what a valid token says.
type findings struct {
	identity string
	expires  time.Time // zero means never
	grants   *auth.Grants
}
