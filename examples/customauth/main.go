// Customauth decides who may connect, and what a client may do, by the user
// table of the host program: everybody owns the topics below "users/NAME/",
// and the administrator owns all.
package main

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"flag"
	"log"
	"net"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

// user is a row of the table. A real one lives in a database.
type user struct {
	salt, hash    []byte
	administrator bool
}

func newUser(password string, administrator bool) user {
	salt := []byte("use crypto/rand")
	return user{salt, hashOf(password, salt), administrator}
}

func hashOf(password string, salt []byte) []byte {
	key, err := pbkdf2.Key(sha256.New, password, salt, 100_000, 32)
	if err != nil {
		panic(err) // only for lengths that no configuration can bring about
	}
	return key
}

// table is the hook. One value may have several capabilities.
type table map[string]user

var (
	_ petrel.Authenticator = table(nil)
	_ petrel.Authorizer    = table(nil)
)

// Authenticate admits those who know their password. An unknown user costs as
// much time as a known one.
func (t table) Authenticate(_ context.Context, r *petrel.ConnectRequest) error {
	u, known := t[r.UserName]
	right := subtle.ConstantTimeCompare(hashOf(string(r.Password), u.salt), u.hash) == 1
	if !known || !right {
		return packets.BadUserNameOrPassword
	}
	return nil
}

// Authorize lets everybody do everything below their own topic.
func (t table) Authorize(_ context.Context, r *petrel.AccessRequest) error {
	name := r.Client.Identity()
	if t[name].administrator || strings.HasPrefix(r.Topic, "users/"+name+"/") {
		return nil
	}
	return packets.NotAuthorized
}

func main() {
	listen := flag.String("listen", "127.0.0.1:1883", "`address` to serve MQTT on")
	flag.Parse()
	users := table{"anna": newUser("secret of anna", false), "root": newUser("secret of root", true)}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{users}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", l.Addr())
	log.Fatal(broker.Serve(l))
}
