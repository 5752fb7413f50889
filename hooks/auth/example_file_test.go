package auth_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
)

func ExamplePasswordFile() {
	// Made with: mosquitto_passwd -c -b passwd alice 'open sesame'
	users, err := auth.NewPasswordFile("testdata/passwd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Users(), "users")

	for _, password := range []string{"open sesame", "sesame"} {
		err := users.Authenticate(context.Background(), &petrel.ConnectRequest{
			HasUserName: true, UserName: "alice", HasPassword: true, Password: petrel.Secret(password),
		})
		fmt.Println(err)
	}
	// Output:
	// 4 users
	// <nil>
	// mqtt: bad user name or password
}

func ExampleACLFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "acl")
	os.WriteFile(path, []byte(`
user alice
topic readwrite home/#
topic deny      home/safe/#

pattern write sensor/%u/data
`), 0o600)

	users, err := auth.NewPasswordFile("testdata/passwd")
	if err != nil {
		log.Fatal(err)
	}
	rights, err := auth.NewACLFile(path)
	if err != nil {
		log.Fatal(err)
	}
	broker, err := petrel.New(petrel.Options{Hooks: []petrel.Hook{users, rights}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	fmt.Println(rights.Rules(), "rules")
	// Output:
	// 3 rules
}

func ExampleACLFile_Reload() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "acl")
	os.WriteFile(path, []byte("topic read news/#\n"), 0o600)
	rights, err := auth.NewACLFile(path)
	if err != nil {
		log.Fatal(err)
	}

	os.WriteFile(path, []byte("topic read news/#\ntopic reed weather/#\n"), 0o600)
	err = rights.Reload()
	fmt.Println(strings.Replace(err.Error(), dir, "/etc/petrel", 1))
	fmt.Println("still", rights.Rules(), "rule")
	// Output:
	// auth: /etc/petrel/acl:2: the access is none of "read", "write", "readwrite" and "deny"; without one the filter cannot have spaces
	// still 1 rule
}
