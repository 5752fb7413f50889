// Package httpauth has hooks that ask a web service of the host who may connect,
// and what a client may do.
//
//	service, err := httpauth.New(httpauth.Options{URL: "https://users.example/mqtt"})
//	petrel.New(petrel.Options{Hooks: []petrel.Hook{service.Authenticator(), service.Authorizer()}})
//
// # Questions
//
// Each question is a POST to [Options.URL] with a JSON object. The key "ask" says
// what is asked; a key whose value would be empty is left out.
//
//	{"ask": "connect", "clientId": "lamp-7", "userName": "alice", "password": "open sesame",
//	 "address": "192.0.2.1", "listener": "public", "commonName": "lamp-7.example"}
//	{"ask": "publish", "clientId": "lamp-7", "identity": "alice", "topic": "lamp/7", "qos": 1, "retain": false}
//	{"ask": "subscribe", "clientId": "lamp-7", "identity": "alice", "filter": "lamp/#", "share": "group", "qos": 1}
//	{"ask": "receive", "clientId": "lamp-7", "identity": "alice", "topic": "lamp/8", "qos": 1, "retain": false}
//
// "clientId" is left out of "connect" when the broker has made it up. "userName"
// and "password" are there, even if empty, when the client gave them: one that is
// there without the other is no proof of anything. A password that is not UTF-8 is
// in "passwordBase64" instead. "address" has no port. "listener" is the name in
// [petrel.ListenerOptions], "commonName" that of a client certificate which was
// verified, by the listener or by a trusted proxy. "filter" is without "$share/NAME/";
// NAME is in "share". "receive" is asked where the answer to "subscribe" wants it.
//
// # Answers
//
// A decision is the status 200 with a JSON object of the type application/json:
//
//	{"result": "allow"}
//	{"result": "deny"}
//
// The status 401 or 403, with whatever body, denies too: a CONNECT is answered with
// [packets.BadUserNameOrPassword] after 401, and otherwise, as everything else is,
// with [packets.NotAuthorized].
//
// With "allow", the answer to "subscribe" may say "check": true, so that each
// message for the subscription is asked about with "receive". That to "connect"
// may have
//
//	"identity": "alice"                  who the client is; otherwise its user name
//	"expires": "2030-01-02T15:04:05Z"    when it is disconnected, see [petrel.ConnectRequest]
//	"rights": {"publish": ["lamp/%c"], "subscribe": ["lamp/#", "news"]}
//	"superuser": true                    it may do everything
//
// Rights have the meaning of [auth.Grants]; a list that is left out grants nothing.
// With rights, or as a superuser, a client is not asked about again: what it does
// costs nothing, and is why they are the better way where messages are many. The
// rights hold as long as the connection does, unless [Service.Forget] ends them.
//
// # Failures
//
// Everything else is a failure, which refuses: another status, a redirect, which is
// not followed, another type, a key that is not above, a body that is too large or
// no JSON, no answer in time, too many questions at a time. It is refused with
// [packets.ServerUnavailable] or [packets.ServerBusy], is not remembered, and the log
// says why. It takes nothing away for good, see [petrel.Broker.Reauthorize].
//
// A service that leaves several questions in a row without an answer is not asked
// for a while: see [Options.PauseAfter]. Until it answers again everything that is
// not in the cache is refused at once, and cached answers hold as long as ever.
//
// A question about a publish, a subscription or a delivery holds up the connection
// that causes it: a delivery that of the publisher.
//
// # Caching
//
// Questions that are the same at one time are asked once. An answer is used again
// for the same question for [Options.AllowFor] or [Options.DenyFor], or for the
// max-age of its Cache-Control if that is not above [Options.MaximumAge]. With no-store
// or no-cache it is not. So a password that was changed is taken for that long.
// After a change, call [Service.Forget], and then [petrel.Broker.Reauthorize].
//
// Passwords are in no log, no error and no URL. The cache has no passwords, but
// hashes under a key that is made anew with each [New].
package httpauth
