// Package jwt has hooks that admit clients by a JSON Web Token (RFC 7519).
//
// [Authenticator] says who a client is, [Guard] also what it may do, as claims of
// the token say:
//
//	keys, err := jwt.NewJWKSFile("keys.json") // Reload reads it again
//	tokens, err := jwt.NewGuard(jwt.Options{Keys: keys, Issuer: "https://id.example", Audience: "mqtt"},
//		jwt.Rights{Publish: "publish", Subscribe: "subscribe"})
//	petrel.New(petrel.Options{Hooks: []petrel.Hook{tokens}})
//
// A token is signed with HS256, RS256, ES256 or EdDSA (Ed25519), and each key is
// for one of them: a token cannot choose another, nor none at all. When it
// expires, its client is disconnected, a 5.0 client with 0xA0, unless it has given
// another token by enhanced authentication, see [Options.Method].
//
// Tokens are in no error and in no log.
package jwt
