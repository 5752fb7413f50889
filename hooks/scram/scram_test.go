package scram_test

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/scram"
	"github.com/petrelmq/petrel/packets"
)

var (
	encode = base64.StdEncoding.EncodeToString
	decode = func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			panic(err)
		}
		return b
	}
)

// The exchange in section 3 of RFC 7677.
const (
	rfcSalt        = "W22ZaJ0SNY7soEsUEjb6gQ=="
	rfcClientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcNonce       = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

// table is Credentials in memory.
type table map[string]scram.Credential

func (t table) Credential(_ context.Context, user string) (scram.Credential, error) {
	if c, ok := t[user]; ok {
		return c, nil
	}
	return scram.Credential{}, scram.ErrUnknownUser
}

// users are "user" with "pencil", and one whose name has to be escaped.
func users(t testing.TB) table {
	c, err := scram.Derive(petrel.Secret("pencil"), decode(rfcSalt), 4096)
	require.NoError(t, err)
	return table{"user": c, "a,b=c": c}
}

func newMethod(t testing.TB, o scram.Options) *scram.Authenticator {
	if o.Credentials == nil {
		o.Credentials = users(t)
	}
	if o.Iterations == 0 {
		o.Iterations = 4096
	}
	a, err := scram.New(o)
	require.NoError(t, err)
	return a
}

func begin(t testing.TB, a *scram.Authenticator, r petrel.ConnectRequest) petrel.AuthenticationExchange {
	x, err := a.BeginAuthentication(context.Background(), &petrel.AuthenticationRequest{Connect: &r, Method: "SCRAM-SHA-256"})
	require.NoError(t, err)
	return x
}

func say(x petrel.AuthenticationExchange, message string) (petrel.AuthenticationStep, error) {
	return x.Authenticate(context.Background(), []byte(message))
}

func TestVectorOfRFC7677(t *testing.T) {
	a := newMethod(t, scram.Options{})
	a.SetNonce(rfcNonce)
	x := begin(t, a, petrel.ConnectRequest{})
	step, err := say(x, rfcClientFirst)
	require.NoError(t, err)
	require.Equal(t, petrel.AuthenticationStep{Data: []byte(rfcServerFirst)}, step)
	step, err = say(x, rfcClientFinal)
	require.NoError(t, err)
	require.Equal(t, petrel.AuthenticationStep{Data: []byte(rfcServerFinal), Done: true, Identity: "user"}, step)
}

// final is what a client answers that has the password and the header.
func final(clientFirst, serverFirst, header, password string) (message, serverFinal string) {
	_, rest, _ := strings.Cut(clientFirst, ",")
	_, bare, _ := strings.Cut(rest, ",")
	var nonce, salt string
	var iterations int
	fields := strings.Split(serverFirst, ",")
	nonce, salt = fields[0][2:], fields[1][2:]
	fmt.Sscanf(fields[2], "i=%d", &iterations)
	salted, err := pbkdf2.Key(sha256.New, password, decode(salt), iterations, 32)
	if err != nil {
		panic(err)
	}
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	without := "c=" + encode([]byte(header)) + ",r=" + nonce
	messages := bare + "," + serverFirst + "," + without
	key := mac(salted, "Client Key")
	stored := sha256.Sum256(key)
	for i, b := range mac(stored[:], messages) {
		key[i] ^= b
	}
	return without + ",p=" + encode(key), "v=" + encode(mac(mac(salted, "Server Key"), messages))
}

func TestWhoIsAdmitted(t *testing.T) {
	for _, tt := range []struct {
		name, first, header, password, identity string
	}{
		{"the right password", "n,,n=user,r=abcdefgh", "n,,", "pencil", "user"},
		{"a client that could bind to the channel", "y,,n=user,r=abcdefgh", "y,,", "pencil", "user"},
		{"as itself", "n,a=user,n=user,r=abcdefgh", "n,a=user,", "pencil", "user"},
		{"with an extension behind the nonce", "n,,n=user,r=abcdefgh,x=y", "n,,", "pencil", "user"},
		{"an escaped name", "n,,n=a=2Cb=3Dc,r=abcdefgh", "n,,", "pencil", "a,b=c"},
		{"the wrong password", "n,,n=user,r=abcdefgh", "n,,", "pencils", ""},
		{"an unknown user", "n,,n=users,r=abcdefgh", "n,,", "pencil", ""},
		{"another header than at first", "y,,n=user,r=abcdefgh", "n,,", "pencil", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := begin(t, newMethod(t, scram.Options{}), petrel.ConnectRequest{})
			step, err := say(x, tt.first)
			require.NoError(t, err)
			require.False(t, step.Done)
			message, proof := final(tt.first, string(step.Data), tt.header, tt.password)
			step, err = say(x, message)
			if tt.identity == "" {
				require.ErrorIs(t, err, packets.NotAuthorized)
				require.Zero(t, step)
			} else {
				require.NoError(t, err)
				require.Equal(t, petrel.AuthenticationStep{Data: []byte(proof), Done: true, Identity: tt.identity}, step)
			}
			_, err = say(x, message)
			require.ErrorIs(t, err, packets.NotAuthorized, "it is over")
		})
	}
}

func TestFirstMessagesThatAreRefused(t *testing.T) {
	for name, message := range map[string]string{
		"nothing": "", "no header": "n=user,r=abcdefgh", "channel binding": "p=tls-unique,,n=user,r=abcdefgh", "half a header": "n,",
		"somebody else": "n,a=root,n=user,r=abcdefgh", "an authzid without a=": "n,user,n=user,r=abcdefgh", "no user": "n,,r=abcdefgh",
		"an empty user": "n,,n=,r=abcdefgh", "no nonce": "n,,n=user", "a short nonce": "n,,n=user,r=abcdefg", "a nonce that does not print": "n,,n=user,r=abcd\x00efgh",
		"a critical extension": "n,,m=x,n=user,r=abcdefgh", "user and nonce swapped": "n,,r=abcdefgh,n=user", "an escape that is none": "n,,n=us=2cer,r=abcdefgh",
		"an escape that is cut": "n,,n=user=,r=abcdefgh", "not UTF-8": "n,,n=us\xffer,r=abcdefgh", "long": "n,,n=user,r=" + strings.Repeat("x", 4096),
	} {
		x := begin(t, newMethod(t, scram.Options{}), petrel.ConnectRequest{})
		step, err := say(x, message)
		assert.ErrorIs(t, err, packets.NotAuthorized, name)
		assert.Zero(t, step, name)
		_, err = say(x, "n,,n=user,r=abcdefgh")
		assert.ErrorIs(t, err, packets.NotAuthorized, "%s, and then another", name)
	}
}

func TestFinalMessagesThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(string) string{
		"nothing": func(string) string { return "" }, "no proof": func(m string) string { m, _, _ = strings.Cut(m, ",p="); return m },
		"an empty proof":        func(m string) string { m, _, _ = strings.Cut(m, ",p="); return m + ",p=" },
		"a proof that is cut":   func(m string) string { m, _, _ = strings.Cut(m, ",p="); return m + ",p=AAAA" },
		"a proof not base64":    func(m string) string { m, _, _ = strings.Cut(m, ",p="); return m + ",p=*" },
		"a proof of zeros":      func(m string) string { m, _, _ = strings.Cut(m, ",p="); return m + ",p=" + encode(make([]byte, 32)) },
		"another nonce":         func(m string) string { return strings.Replace(m, "r=abcdefgh", "r=abcdefgi", 1) },
		"the client's half":     func(m string) string { _, p, _ := strings.Cut(m, ",p="); return "c=biws,r=abcdefgh,p=" + p },
		"an extension unsigned": func(m string) string { return strings.Replace(m, ",p=", ",x=y,p=", 1) },
		"the first again":       func(string) string { return "n,,n=user,r=abcdefgh" },
	} {
		x := begin(t, newMethod(t, scram.Options{}), petrel.ConnectRequest{})
		step, err := say(x, "n,,n=user,r=abcdefgh")
		require.NoError(t, err)
		message, _ := final("n,,n=user,r=abcdefgh", string(step.Data), "n,,", "pencil")
		step, err = say(x, change(message))
		assert.ErrorIs(t, err, packets.NotAuthorized, name)
		assert.Zero(t, step, name)
		_, err = say(x, message)
		assert.ErrorIs(t, err, packets.NotAuthorized, "%s, and then the right one", name)
	}
}

func TestUserNameOfConnect(t *testing.T) {
	a := newMethod(t, scram.Options{})
	for name, allowed := range map[string]bool{"user": true, "root": false} {
		_, err := say(begin(t, a, petrel.ConnectRequest{HasUserName: true, UserName: name}), "n,,n=user,r=abcdefgh")
		require.Equal(t, allowed, err == nil, name)
	}
}

// Nobody learns from salt and iterations who exists.
func TestUnknownUsersLookLikeOthers(t *testing.T) {
	shape := func(a *scram.Authenticator, user string) (salt, rest string) {
		step, err := say(begin(t, a, petrel.ConnectRequest{}), "n,,n="+user+",r=abcdefgh")
		require.NoError(t, err)
		fields := strings.Split(string(step.Data), ",")
		require.Len(t, fields, 3)
		return fields[1], fields[2]
	}
	key := petrel.Secret("a key that is kept")
	a, again := newMethod(t, scram.Options{SaltKey: key}), newMethod(t, scram.Options{SaltKey: key})
	other := newMethod(t, scram.Options{})
	_, known := shape(a, "user")
	seen := map[string]bool{}
	for _, user := range []string{"x", "y", "users"} {
		salt, rest := shape(a, user)
		require.Equal(t, known, rest)
		require.Len(t, decode(salt[2:]), len(decode(rfcSalt)))
		for _, b := range []*scram.Authenticator{a, again} {
			stable, _ := shape(b, user)
			require.Equal(t, salt, stable)
		}
		unlike, _ := shape(other, user)
		require.NotEqual(t, salt, unlike, "another key")
		require.False(t, seen[salt])
		seen[salt] = true
	}
}

func TestNoncesAreNew(t *testing.T) {
	a := newMethod(t, scram.Options{})
	seen := map[string]bool{}
	for range 100 {
		step, err := say(begin(t, a, petrel.ConnectRequest{}), "n,,n=user,r=abcdefgh")
		require.NoError(t, err)
		nonce, _, _ := strings.Cut(string(step.Data), ",")
		require.Greater(t, len(nonce), len("r=abcdefgh")+20)
		require.False(t, seen[nonce])
		seen[nonce] = true
	}
}

type failing struct{}

func (failing) Credential(context.Context, string) (scram.Credential, error) {
	return scram.Credential{}, errors.New("the database is away")
}

func TestCredentialsThatFailRefuse(t *testing.T) {
	_, err := say(begin(t, newMethod(t, scram.Options{Credentials: failing{}}), petrel.ConnectRequest{}), "n,,n=user,r=abcdefgh")
	require.ErrorIs(t, err, packets.NotAuthorized)
	require.ErrorContains(t, err, "the database is away")
	_, err = say(begin(t, newMethod(t, scram.Options{Credentials: table{"user": {}}}), petrel.ConnectRequest{}), "n,,n=user,r=abcdefgh")
	require.ErrorIs(t, err, packets.NotAuthorized, "a credential of zeros")
}

func TestOptionsThatCannotBeMeant(t *testing.T) {
	for name, o := range map[string]scram.Options{
		"no credentials": {}, "few iterations": {Credentials: table{}, Iterations: 4095}, "many iterations": {Credentials: table{}, Iterations: 1_000_001},
		"a short key": {Credentials: table{}, SaltKey: petrel.Secret("short")},
	} {
		_, err := scram.New(o)
		require.Error(t, err, name)
	}
}

func TestCredentials(t *testing.T) {
	c, err := scram.NewCredential(petrel.Secret("pencil"), 0)
	require.NoError(t, err)
	require.Equal(t, scram.DefaultIterations, c.Iterations)
	back, err := scram.ParseCredential(c.Text())
	require.NoError(t, err)
	require.Equal(t, c, back)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		require.Equal(t, "SCRAM-SHA-256$15000:***", fmt.Sprintf(verb, c))
	}
	_, err = json.Marshal(c)
	require.Error(t, err)
	for name, password := range map[string]string{"empty": "", "not ASCII": "pässword", "a control character": "a\tb"} {
		_, err := scram.NewCredential(petrel.Secret(password), 0)
		require.Error(t, err, name)
	}
	for _, n := range []int{-1, 1, 4095, 1_000_001} {
		_, err := scram.NewCredential(petrel.Secret("pencil"), n)
		require.Error(t, err, n)
	}
}

func TestCredentialTextsThatAreRefused(t *testing.T) {
	good, err := scram.Derive(petrel.Secret("pencil"), decode(rfcSalt), 4096)
	require.NoError(t, err)
	text := good.Text()
	for _, broken := range []string{
		"", "pencil", strings.Replace(text, "256", "1", 1), strings.Replace(text, "$4096", "$4095", 1), strings.Replace(text, "$4096", "$1000001", 1),
		strings.Replace(text, "$4096", "$x", 1), strings.Replace(text, rfcSalt, "AAAA", 1), strings.Replace(text, rfcSalt, "*", 1),
		text + "A", text + ":", text[:len(text)-5], strings.ReplaceAll(text, "$", ":"),
	} {
		_, err := scram.ParseCredential(broken)
		require.Error(t, err, broken)
		require.NotContains(t, err.Error(), "pencil")
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	good := users(t)["user"].Text()
	write := func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) }
	_, err := scram.NewFile(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	write("# users\n\nuser:" + good + "\r\nzoë:" + good)
	f, err := scram.NewFile(path)
	require.NoError(t, err)
	require.Equal(t, 2, f.Users())
	for user, known := range map[string]bool{"user": true, "zoë": true, "# users": false, "": false} {
		_, err := f.Credential(context.Background(), user)
		require.Equal(t, known, err == nil, user)
		require.Equal(t, !known, errors.Is(err, scram.ErrUnknownUser), user)
	}
	for name, text := range map[string]string{"no colon": "user", "no name": ":" + good, "twice": "u:" + good + "\nu:" + good, "a password": "user:pencil", "not UTF-8": "\xff:" + good} {
		write(text)
		err := f.Reload()
		require.ErrorContains(t, err, path, name)
		require.NotContains(t, err.Error(), "pencil")
		require.Equal(t, 2, f.Users(), "what was there stays")
	}
	write("")
	require.NoError(t, f.Reload())
	require.Zero(t, f.Users())
}
