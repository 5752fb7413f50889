// Package auth has ready-made hooks that decide who may connect, and what a
// client may do.
//
// [AllowAll] and [AllowLocal] look at no credentials: the first admits
// everybody, the second everybody on this machine. [Anonymous] admits those who
// give no credentials. [PasswordFile] admits the
// users of a file that mosquitto_passwd made, [Certificate] who has proved by TLS
// to be whom a certificate names, [PeerUser] the users of this machine. [AnyOf] makes one authenticator of
// several, for brokers where it is enough that one of them admits the client:
//
//	petrel.Options{Hooks: []petrel.Hook{
//		auth.AnyOf(auth.AllowLocal{}, users), // no password needed on this machine
//		rights,
//	}}
//
// Listed side by side in Options.Hooks, without AnyOf, each of them must admit.
//
// [ACLFile] allows clients to publish and to subscribe, as an acl_file of
// mosquitto says. Without it, or another authorizer, everybody may do everything.
// [Grants] are the same for one client, for hooks that know its rights from elsewhere.
//
// Both files can be read again while the broker runs.
package auth
