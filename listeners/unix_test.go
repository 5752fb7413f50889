//go:build unix

package listeners_test

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func TestUnix(t *testing.T) {
	path := socketPath(t)
	l, err := listeners.Unix(path, 0o620)
	require.NoError(t, err)
	closing(t, l)
	requireMode(t, path, 0o620)
	testListener(t, l, func(t *testing.T) net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Error(err)
		}
		return c
	})
	_, err = os.Lstat(path)
	require.ErrorIs(t, err, fs.ErrNotExist, "Close left the file behind")
}

func TestUnixZeroModeIsOwnerOnly(t *testing.T) {
	path := socketPath(t)
	l, err := listeners.Unix(path, 0)
	require.NoError(t, err)
	closing(t, l)
	requireMode(t, path, 0o600)
}

func TestUnixReplacesStaleSocket(t *testing.T) {
	path := socketPath(t)
	dead, err := net.Listen("unix", path)
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	_, err = os.Lstat(path)
	require.NoError(t, err)

	l, err := listeners.Unix(path, 0o600)
	require.NoError(t, err)
	closing(t, l)
	require.True(t, listening("unix", path))
}

func TestUnixRefusesLiveSocket(t *testing.T) {
	path := socketPath(t)
	live, err := listeners.Unix(path, 0)
	require.NoError(t, err)
	closing(t, live)

	_, err = listeners.Unix(path, 0)
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, path)
	require.True(t, listening("unix", path), "the live socket was touched")
}

func TestUnixRefusesOtherFiles(t *testing.T) {
	path := socketPath(t)
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err := listeners.Unix(path, 0)
	require.ErrorIs(t, err, fs.ErrExist)

	link := path + ".link" // not even a link to a dead socket
	require.NoError(t, os.Symlink(path, link))
	_, err = listeners.Unix(link, 0)
	require.ErrorIs(t, err, fs.ErrExist)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(data))
}

func TestUnixRefusesNamesWithoutFile(t *testing.T) {
	for _, path := range []string{"", "@abstract", "\x00abstract"} {
		_, err := listeners.Unix(path, 0)
		require.Error(t, err, "path %q", path)
	}
}

func requireMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, want, info.Mode().Perm())
}

// socketPath returns a path short enough for a socket address.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "l")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}
