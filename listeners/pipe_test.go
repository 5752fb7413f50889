package listeners_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel/listeners"
)

func TestPipe(t *testing.T) {
	l := listeners.Pipe()
	testListener(t, l, func(t *testing.T) net.Conn {
		c, err := l.Dial(context.Background())
		if err != nil {
			t.Error(err)
		}
		return c
	})
	_, err := l.Dial(context.Background())
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, l.Close())
}

func TestPipeAddresses(t *testing.T) {
	l := listeners.Pipe()
	defer l.Close()
	seen := map[string]bool{}
	for range 3 {
		conns, _ := accepting(l)
		client, err := l.Dial(context.Background())
		require.NoError(t, err)
		closing(t, client)
		server := closing(t, receive(t, conns))
		require.Equal(t, l.Addr(), client.RemoteAddr())
		require.Equal(t, l.Addr(), server.LocalAddr())
		require.Equal(t, client.LocalAddr(), server.RemoteAddr())
		require.Equal(t, "pipe", server.RemoteAddr().Network())
		seen[server.RemoteAddr().String()] = true
	}
	require.Len(t, seen, 3, "clients share an address")
}

func TestPipeInBubble(t *testing.T) {
	t.Run("dial waits for accept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := listeners.Pipe()
			defer l.Close()
			dialed := false
			go func() {
				c, err := l.Dial(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				dialed = true
				_ = c.Close()
			}()
			synctest.Wait()
			require.False(t, dialed)
			c, err := l.Accept()
			require.NoError(t, err)
			synctest.Wait()
			require.True(t, dialed)
			require.NoError(t, c.Close())
		})
	})
	t.Run("dial ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := listeners.Pipe()
			defer l.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			start := time.Now()
			_, err := l.Dial(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Minute, time.Since(start))
			_, err = l.Dial(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	})
	t.Run("close ends a waiting dial and accept", func(t *testing.T) {
		for _, call := range []func(*listeners.PipeListener) error{
			func(l *listeners.PipeListener) error { _, err := l.Dial(context.Background()); return err },
			func(l *listeners.PipeListener) error { _, err := l.Accept(); return err },
		} {
			synctest.Test(t, func(t *testing.T) {
				l := listeners.Pipe()
				var err error
				go func() { err = call(l) }()
				synctest.Wait()
				require.NoError(t, err)
				require.NoError(t, l.Close())
				synctest.Wait()
				require.ErrorIs(t, err, net.ErrClosed)
			})
		}
	})
	t.Run("deadlines follow the fake clock", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := listeners.Pipe()
			defer l.Close()
			conns, _ := accepting(l)
			client, err := l.Dial(context.Background())
			require.NoError(t, err)
			defer client.Close()
			server := <-conns
			defer server.Close()
			testDeadlines(t, server)
		})
	})
}
