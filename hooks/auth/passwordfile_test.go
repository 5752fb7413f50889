package auth_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/auth"
	"github.com/petrelmq/petrel/packets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// write replaces the file the way that Reload asks for, and returns its path.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "file")
	}
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	return path
}

// line7 is the line of a user whose password is hashed with PBKDF2.
func line7(user, password string, iterations int) string {
	salt := []byte("salt of " + user)
	hash, err := pbkdf2.Key(sha512.New, password, salt, iterations, 64)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s:$7$%d$%s$%s\n", user, iterations, base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(hash))
}

// line6 is the line of a user whose password is hashed with SHA-512.
func line6(user, password string) string {
	salt := "salt of " + user
	hash := sha512.Sum512([]byte(password + salt))
	return fmt.Sprintf("%s:$6$%s$%s\n", user, base64.StdEncoding.EncodeToString([]byte(salt)), base64.StdEncoding.EncodeToString(hash[:]))
}

func passwordFile(t testing.TB, lines ...string) *auth.PasswordFile {
	t.Helper()
	f, err := auth.NewPasswordFile(write(t, "", strings.Join(lines, "")))
	require.NoError(t, err)
	return f
}

func login(user, password string) *petrel.ConnectRequest {
	return &petrel.ConnectRequest{
		ClientID: "c", HasUserName: true, UserName: user, HasPassword: true, Password: petrel.Secret(password), Identity: user,
	}
}

// The file is the work of mosquitto_passwd 2.0.11.
func TestPasswordFileOfMosquitto(t *testing.T) {
	f, err := auth.NewPasswordFile("testdata/passwd")
	require.NoError(t, err)
	assert.Equal(t, 4, f.Users())
	for _, tc := range []struct {
		name, user, password string
		want                 error
	}{
		{"pbkdf2, right", "alice", "open sesame", nil},
		{"pbkdf2, wrong", "alice", "open sesam", packets.BadUserNameOrPassword},
		{"pbkdf2, more than the password", "alice", "open sesame ", packets.BadUserNameOrPassword},
		{"sha512, right", "bob", "pässwörd", nil},
		{"sha512, wrong", "bob", "password", packets.BadUserNameOrPassword},
		{"the password of another user", "bob", "open sesame", packets.BadUserNameOrPassword},
		{"the empty password that the file has", "empty", "", nil},
		{"not the empty password", "empty", "x", packets.BadUserNameOrPassword},
		{"an empty password that the file has not", "alice", "", packets.BadUserNameOrPassword},
		{"a user name with a space", "carol smith", "with:colon$and#hash", nil},
		{"user names have case", "Alice", "open sesame", packets.BadUserNameOrPassword},
		{"an unknown user", "mallory", "open sesame", packets.BadUserNameOrPassword},
		{"a hash is no password", "alice", "B/qhzwKmGZogT/YUL8G7q4QJz6JekNWGIk61dxZnKcIoloLugLgbFeaWz//9tSo6+nwKDHiWmwX7tIMbrvNJzg==", packets.BadUserNameOrPassword},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.ErrorIs(t, f.Authenticate(t.Context(), login(tc.user, tc.password)), tc.want)
		})
	}
}

func TestPasswordFileCredentials(t *testing.T) {
	f := passwordFile(t, line7("alice", "a", 1), line6("bob", "b"))
	for _, tc := range []struct {
		name string
		r    petrel.ConnectRequest
		want error
	}{
		{"right", *login("alice", "a"), nil},
		{"nothing", petrel.ConnectRequest{}, packets.NotAuthorized},
		{"a password alone", petrel.ConnectRequest{HasPassword: true, Password: petrel.Secret("a")}, packets.NotAuthorized},
		{"a user name that is not there but has a value", petrel.ConnectRequest{UserName: "alice", HasPassword: true, Password: petrel.Secret("a")}, packets.NotAuthorized},
		{"a user name alone", petrel.ConnectRequest{HasUserName: true, UserName: "alice"}, packets.BadUserNameOrPassword},
		{"a password that is not there but has a value", petrel.ConnectRequest{HasUserName: true, UserName: "alice", Password: petrel.Secret("a")}, packets.BadUserNameOrPassword},
		{"an empty user name", *login("", "a"), packets.BadUserNameOrPassword},
		{"an unknown user", *login("carol", "a"), packets.BadUserNameOrPassword},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.r.Identity = "settled by another hook"
			assert.ErrorIs(t, f.Authenticate(t.Context(), &tc.r), tc.want)
			assert.Equal(t, "settled by another hook", tc.r.Identity)
		})
	}
}

func TestPasswordFileLines(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(make([]byte, 64))
	short := base64.StdEncoding.EncodeToString(make([]byte, 63))
	for _, tc := range []struct {
		name, text string
		users      int
		want       string // the error behind the path; empty for none
	}{
		{"nothing", "", 0, ""},
		{"nothing but comments and blank lines", "# users\n\n \t\r\n#a:b\n", 0, ""},
		{"comments between users", "#\n" + line6("a", "x") + "\n# b\n" + line7("b", "x", 101), 2, ""},
		{"no line feed at the end", strings.TrimSpace(line6("a", "x")), 1, ""},
		{"lines that end in CR LF", strings.ReplaceAll(line6("a", "x")+line6("b", "x"), "\n", "\r\n"), 2, ""},
		{"a byte order mark", "\ufeff" + line6("a", "x"), 1, ""},
		{"the most iterations", "a:$7$500000$eHh4$" + hash, 1, ""},
		{"one iteration more", "a:$7$500001$eHh4$" + hash, 0, "1: too many iterations: 500001; at most 500000 are allowed"},
		{"iterations beyond any number", "a:$7$99999999999999999999$eHh4$" + hash, 0, "1: the number of iterations is not a number above 0"},
		{"no iterations", "a:$7$0$eHh4$" + hash, 0, "1: the number of iterations is not a number above 0"},
		{"negative iterations", "a:$7$-1$eHh4$" + hash, 0, "1: the number of iterations is not a number above 0"},
		{"iterations left out", "a:$7$eHh4$" + hash, 0, "1: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"iterations of another kind", "a:$7$1e3$eHh4$" + hash, 0, "1: the number of iterations is not a number above 0"},
		{"a user without password", line6("a", "x") + "b:\n", 0, "2: the user has no password"},
		{"a user name alone", line6("a", "x") + "\n\nb\n", 0, "4: no ':' after a user name"},
		{"no user name", ":$6$eHh4$" + hash, 0, "1: the user name is empty"},
		{"a password that is not hashed", "# plain\na:secret\n", 0, "2: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"another kind of hash", "a:$argon2id$v=19$m=47104$eHh4$" + hash, 0, "1: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"an unknown kind of hash", "a:$5$eHh4$" + hash, 0, "1: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"text before the hash", "a:x$6$eHh4$" + hash, 0, "1: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"an empty salt", "a:$6$$" + hash, 0, "1: the salt is not base64, or empty"},
		{"a salt that is not base64", "a:$6$e*h4$" + hash, 0, "1: the salt is not base64, or empty"},
		{"an empty hash", "a:$6$eHh4$", 0, "1: the hash is not base64 of 64 bytes"},
		{"a short hash", "a:$6$eHh4$" + short, 0, "1: the hash is not base64 of 64 bytes"},
		{"a hash that is not base64", "a:$6$eHh4$" + hash[:80] + "********", 0, "1: the hash is not base64 of 64 bytes"},
		{"a field too many", "a:$6$eHh4$" + hash + "$", 0, "1: the password is not hashed as $7$ITERATIONS$SALT$HASH or $6$SALT$HASH"},
		{"a user who is there twice", line6("a", "x") + "#\n" + line7("a", "y", 1), 0, "3: the same user as in line 1"},
		{"not UTF-8", "\xff" + line6("a", "x"), 0, "1: not valid UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := write(t, "", tc.text)
			f, err := auth.NewPasswordFile(path)
			if tc.want != "" {
				assert.EqualError(t, err, "auth: "+path+":"+tc.want)
				assert.Nil(t, f)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tc.users, f.Users())
		})
	}
}

func TestPasswordFileThatCannotBeRead(t *testing.T) {
	for name, path := range map[string]string{
		"missing":     filepath.Join(t.TempDir(), "none"),
		"a directory": t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := auth.NewPasswordFile(path)
			assert.Nil(t, f)
			_, isPathError := errors.AsType[*fs.PathError](err)
			assert.True(t, isPathError, "%v", err)
			assert.ErrorContains(t, err, path)
		})
	}
}

func TestPasswordFileWithoutUsersAdmitsNobody(t *testing.T) {
	for name, f := range map[string]*auth.PasswordFile{"empty file": passwordFile(t), "zero value": {}} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, f.Users())
			assert.ErrorIs(t, f.Authenticate(t.Context(), login("alice", "a")), packets.BadUserNameOrPassword)
			assert.ErrorIs(t, f.Authenticate(t.Context(), login("alice", "")), packets.BadUserNameOrPassword)
			assert.ErrorIs(t, f.Authenticate(t.Context(), &petrel.ConnectRequest{}), packets.NotAuthorized)
		})
	}
}

func TestPasswordFileReload(t *testing.T) {
	path := write(t, "", line6("alice", "one"))
	f, err := auth.NewPasswordFile(path)
	require.NoError(t, err)

	write(t, path, line6("alice", "two")+line6("bob", "b"))
	require.NoError(t, f.Authenticate(t.Context(), login("alice", "one")), "the file alone changes nothing")
	require.NoError(t, f.Reload())
	assert.Equal(t, 2, f.Users())
	assert.ErrorIs(t, f.Authenticate(t.Context(), login("alice", "one")), packets.BadUserNameOrPassword)
	assert.NoError(t, f.Authenticate(t.Context(), login("alice", "two")))
	assert.NoError(t, f.Authenticate(t.Context(), login("bob", "b")))

	write(t, path, line6("carol", "c")+"bob\n")
	assert.EqualError(t, f.Reload(), "auth: "+path+":2: no ':' after a user name")
	require.NoError(t, os.Remove(path))
	assert.ErrorIs(t, f.Reload(), fs.ErrNotExist)
	assert.Equal(t, 2, f.Users(), "a Reload that fails changes nothing")
	assert.NoError(t, f.Authenticate(t.Context(), login("alice", "two")))
	assert.ErrorIs(t, f.Authenticate(t.Context(), login("carol", "c")), packets.BadUserNameOrPassword)

	write(t, path, "")
	require.NoError(t, f.Reload())
	assert.Zero(t, f.Users())
	assert.ErrorIs(t, f.Authenticate(t.Context(), login("alice", "two")), packets.BadUserNameOrPassword)
}

// Each login finds the whole of one version of the file: alice is in both, the
// other is in one.
func TestPasswordFileReloadWhileClientsConnect(t *testing.T) {
	versions := []string{line6("alice", "a") + line6("bob", "b"), line6("carol", "c") + line6("alice", "a")}
	path := write(t, "", versions[0])
	f, err := auth.NewPasswordFile(path)
	require.NoError(t, err)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 100 {
				assert.NoError(t, f.Authenticate(t.Context(), login("alice", "a")))
				assert.Error(t, f.Authenticate(t.Context(), login("bob", "c")))
			}
		})
	}
	for i := range 50 {
		write(t, path, versions[i%2])
		assert.NoError(t, f.Reload())
	}
	clients.Wait()
}

func TestPasswordFileTakesTurns(t *testing.T) {
	for name, user := range map[string]string{"known user": "alice", "unknown user": "mallory"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := passwordFile(t, line7("alice", "a", 1))
				require.Equal(t, max(1, runtime.GOMAXPROCS(0)/2), f.Turns())
				var giveBack []func()
				for range f.Turns() {
					giveBack = append(giveBack, f.TakeTurn())
				}
				ctx, giveUp := context.WithCancel(t.Context())
				impatient, patient := make(chan error, 1), make(chan error, 1)
				go func() { impatient <- f.Authenticate(ctx, login(user, "a")) }()
				go func() { patient <- f.Authenticate(t.Context(), login(user, "a")) }()

				synctest.Wait()
				require.Empty(t, impatient, "it has a turn that is taken")
				require.Empty(t, patient, "it has a turn that is taken")
				giveUp()
				err := <-impatient
				assert.ErrorIs(t, err, packets.ServerBusy)
				assert.ErrorIs(t, err, context.Canceled)

				giveBack[0]()
				err = <-patient
				assert.Equal(t, user == "alice", err == nil, "%v", err)
				for _, f := range giveBack[1:] {
					f()
				}
				for range 2 * f.Turns() { // all turns are there again
					assert.NoError(t, f.Authenticate(t.Context(), login("alice", "a")))
				}
			})
		})
	}
}

func TestPasswordFileHashesNothingTooLate(t *testing.T) {
	f := passwordFile(t, line6("alice", "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // a select between a turn and the end would take either
		assert.ErrorIs(t, f.Authenticate(ctx, login("alice", "a")), packets.ServerBusy)
	}
	assert.NoError(t, f.Authenticate(t.Context(), login("alice", "a")), "each turn was given back")
}

// knownReasons are all that an error about a line may say, so that it cannot
// quote anything.
var knownReasons = regexp.MustCompile(`^auth: /etc/passwd:[0-9]+: (` + strings.Join([]string{
	`no ':' after a user name`, `the user name is empty`, `the same user as in line [0-9]+`, `the user has no password`,
	`the number of iterations is not a number above 0`, `too many iterations: [0-9]{1,10}; at most 500000 are allowed`,
	`the password is not hashed as \$7\$ITERATIONS\$SALT\$HASH or \$6\$SALT\$HASH`, `the salt is not base64, or empty`,
	`the hash is not base64 of 64 bytes`, `not valid UTF-8`,
}, "|") + `)$`)

// allowedBy reports whether a line of text allows the user with the password,
// one line at a time and without the ways of the parser.
func allowedBy(text, user, password string) bool {
	form := regexp.MustCompile(`^[ \t\r\v\f]*\$(?:6|7\$([0-9]+))\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)$`)
	for _, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.Trim(line, " \t\r\v\f")
		name, rest, _ := strings.Cut(line, ":")
		m := form.FindStringSubmatch(strings.ReplaceAll(rest, "\r", ""))
		if strings.HasPrefix(line, "#") || strings.TrimRight(name, " \t\r\v\f") != user || m == nil {
			continue
		}
		salt, _ := base64.StdEncoding.DecodeString(m[2])
		hash, _ := base64.StdEncoding.DecodeString(m[3])
		sum := sha512.Sum512([]byte(password + string(salt)))
		if m[1] != "" {
			n, _ := strconv.Atoi(m[1])
			key, _ := pbkdf2.Key(sha512.New, password, salt, n, 64)
			sum = [64]byte(key)
		}
		return string(hash) == string(sum[:])
	}
	return false
}

// FuzzPasswordFile: no text makes the parser panic or quote it, and a client is
// admitted exactly if a line admits it.
func FuzzPasswordFile(f *testing.F) {
	real, err := os.ReadFile("testdata/passwd")
	require.NoError(f, err)
	f.Add(string(real), "alice", "open sesame")
	f.Add(string(real), "bob", "pässwörd")
	f.Add(line7("alice", "a", 3)+"#\n\r\n"+line6("bob", "b"), "bob", "b")
	f.Add(line6(" alice", "a")+"b:", "alice", "a")
	f.Add("a:$7$500001$eHh4$AAAA", "a", "")
	f.Add("a:secret", "a", "secret")
	expensive := regexp.MustCompile(`\$0*[0-9]{4,}\$`)
	f.Fuzz(func(t *testing.T, text, user, password string) {
		file, err := auth.ParsePasswordFile("/etc/passwd", []byte(text))
		if err != nil {
			assert.Regexp(t, knownReasons, err.Error())
			return
		}
		if expensive.MatchString(text) {
			return // it would be right, but take long
		}
		want := user != "" && allowedBy(text, user, password)
		err = file.Authenticate(t.Context(), login(user, password))
		if want {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, packets.BadUserNameOrPassword)
		}
		for _, name := range file.UserNames() {
			if name == "" || !strings.Contains(text, name) {
				t.Fatalf("user %q is in no line", name)
			}
		}
	})
}
