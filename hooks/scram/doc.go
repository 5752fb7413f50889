// Package scram has a hook for the Authentication Method SCRAM-SHA-256 (RFC 5802
// and 7677) of MQTT 5.0: the client proves that it knows its password without
// sending it, and the broker proves that it knows the client's credentials.
//
//	users, err := scram.NewFile("users.scram") // Reload reads it again
//	method, err := scram.New(scram.Options{Credentials: users})
//	petrel.New(petrel.Options{Hooks: []petrel.Hook{method}})
//
// A [Credential] holds no password and nothing that a client could log in with;
// [NewCredential] makes one. A client that is connected may prove itself again at
// any time. Clients that do not use the method are refused, unless there is an
// [petrel.Authenticator] for them.
//
// There is no channel binding: clients that insist on it are refused. SASLprep is
// left to the client: user names are compared byte by byte, and NewCredential
// takes passwords of printable ASCII only, which SASLprep leaves as they are.
package scram
