// Package auth has ready-made hooks that decide who may connect.
//
// [AllowAll] and [AllowLocal] look at no credentials: the first admits
// everybody, the second everybody on this machine. [AnyOf] makes one
// authenticator of several, for brokers where it is enough that one of them
// admits the client:
//
//	petrel.Options{Hooks: []petrel.Hook{
//		auth.AnyOf(auth.AllowLocal{}, devices), // no password needed on this machine
//	}}
//
// Listed side by side in Options.Hooks, without AnyOf, each of them must admit.
package auth
