package auth

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/packets"
)

var _ petrel.Authenticator = (*PasswordFile)(nil)

// PasswordFile is an [petrel.Authenticator] that admits the users of a file
// which mosquitto_passwd made. Each of its lines is one of
//
//	user:$7$ITERATIONS$SALT$HASH   (PBKDF2 with HMAC-SHA-512)
//	user:$6$SALT$HASH              (SHA-512 of password and salt)
//
// with salt and hash in base64; blank lines, and lines that begin with #, say
// nothing. Anything else is an error that names path, line and reason, but no
// user, salt or hash: so is a user without password, a password that is not
// hashed, a user who is there twice, and a number of iterations above 500,000.
//
// Clients without user name are refused with [packets.NotAuthorized]; an empty
// user name, a missing password and a wrong one with
// [packets.BadUserNameOrPassword]. A name that is unknown costs a hash as well,
// so that the time of the answer does not tell which names exist.
//
// Passwords are hashed on the goroutine that asks, but only half of the
// processors ([runtime.GOMAXPROCS] at the beginning, at least one) do so at a
// time; in a storm of connects others wait for their turn, and are refused with
// [packets.ServerBusy] when their time is up, see [petrel.Options.HookTimeout].
type PasswordFile struct {
	path  string
	seed  maphash.Seed
	turns chan struct{} // holds one value for each hash that is computed

	reload sync.Mutex // makes one step of reading and replacing
	users  atomic.Pointer[passwords]
}

// NewPasswordFile reads the file at path. An empty file is no error, but
// admits nobody; see [PasswordFile.Users].
func NewPasswordFile(path string) (*PasswordFile, error) {
	f := newPasswordFile(path)
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

func newPasswordFile(path string) *PasswordFile {
	return &PasswordFile{path: path, seed: maphash.MakeSeed(), turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// Reload reads the file again. From its return on, what the file says now
// decides who may connect; clients that are connected stay so. If it fails,
// everything stays as it was. It may be called at any time.
//
// Replace the file by renaming another to its name: a file that is read while
// it is being written may lack users.
func (f *PasswordFile) Reload() error {
	f.reload.Lock()
	defer f.reload.Unlock()
	text, err := readFile(f.path)
	if err != nil {
		return err
	}
	users, err := parsePasswords(f.path, text)
	if err != nil {
		return err
	}
	f.users.Store(users)
	return nil
}

// Users returns how many users the file has. With none, nobody is admitted.
func (f *PasswordFile) Users() int {
	if users := f.users.Load(); users != nil {
		return len(users.list)
	}
	return 0
}

// Authenticate admits the client if the file has its user name with its password.
func (f *PasswordFile) Authenticate(ctx context.Context, r *petrel.ConnectRequest) error {
	if !r.HasUserName {
		return packets.NotAuthorized
	}
	if r.UserName == "" || !r.HasPassword {
		return packets.BadUserNameOrPassword
	}
	p, known := f.users.Load().find(r.UserName, f.seed)
	if p == nil {
		return packets.BadUserNameOrPassword
	}
	right, err := f.compare(ctx, p, r.Password)
	if err != nil {
		return err
	}
	if !known || !right {
		return packets.BadUserNameOrPassword
	}
	return nil
}

// compare hashes the given password when it is its turn.
func (f *PasswordFile) compare(ctx context.Context, p *password, given []byte) (bool, error) {
	select {
	case f.turns <- struct{}{}:
		defer func() { <-f.turns }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return false, &packets.Error{Code: packets.ServerBusy, Detail: "no turn to hash a password", Err: err}
	}
	right, err := p.is(given)
	if err != nil {
		return false, fmt.Errorf("auth: hash a password: %w", err)
	}
	return right, nil
}
