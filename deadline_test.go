package petrel

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A deadline is told from a context of the standard library by nothing.
func TestDeadlineIsAContext(t *testing.T) {
	type key struct{}
	for _, early := range []bool{false, true} { // whether somebody asks for Done at once
		for _, tc := range []struct {
			name string
			do   func(cancelParent func(), d *deadline)
			want error
		}{
			{"nothing", func(func(), *deadline) {}, nil},
			{"the time has not passed", func(func(), *deadline) { time.Sleep(time.Second - 1) }, nil},
			{"the time has passed", func(func(), *deadline) { time.Sleep(time.Second) }, context.DeadlineExceeded},
			{"the parent ends", func(cancel func(), _ *deadline) { cancel() }, context.Canceled},
			{"the decision is made", func(_ func(), d *deadline) { d.end() }, context.Canceled},
		} {
			t.Run(tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
					defer cancel()
					d := newDeadline(parent, time.Second)
					defer d.end()
					if early {
						d.Done()
					}
					at, ok := d.Deadline()
					require.True(t, ok)
					require.Equal(t, time.Second, time.Until(at))
					tc.do(cancel, d)
					synctest.Wait()
					require.Equal(t, tc.want, d.Err())
					require.Equal(t, "value", d.Value(key{}))
					child, cancelChild := context.WithCancel(d)
					defer cancelChild()
					synctest.Wait()
					require.Equal(t, tc.want, child.Err())
					select {
					case <-d.Done():
						require.Error(t, tc.want)
					default:
						require.NoError(t, tc.want)
					}
					require.Equal(t, tc.want, d.Err())
				})
			})
		}
	}
}
