package petrel_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/internal/brokertest"
)

// slowStore takes its time for each record that is read.
type slowStore struct {
	petrel.Store
	each time.Duration
}

func (s slowStore) Load(ctx context.Context, from, to []byte, each func(key, value []byte) error) error {
	return s.Store.Load(ctx, from, to, func(key, value []byte) error {
		time.Sleep(s.each)
		return each(key, value)
	})
}

// Who waits for a long start is told how far it is, and who does not wait is not.
func TestProgressOfALongStart(t *testing.T) {
	for _, tc := range []struct {
		each  time.Duration // that one of 10,000 records takes
		lines int           // one in more than two seconds, and after 1,024 records
	}{{0, 0}, {time.Millisecond, 4}, {3 * time.Millisecond, 9}} {
		t.Run(tc.each.String(), func(t *testing.T) {
			onMachine(t, func(t *testing.T, m *machine) {
				const messages = 10_000
				b := m.start(discreet)
				for i := range messages {
					require.NoError(t, b.Publish(t.Context(), petrel.Message{Topic: fmt.Sprintf("a/%d", i), Payload: []byte("x"), Retain: true}))
				}
				m.crash()
				s, err := m.disk.Open()
				require.NoError(t, err)
				var log bytes.Buffer
				b = brokertest.New(t, petrel.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Hooks: []petrel.Hook{slowStore{s, tc.each}}})
				require.Equal(t, messages, b.Stats().Retained)
				said := log.String()
				require.Equal(t, tc.lines, strings.Count(said, `msg="petrel: restoring"`), said)
				if tc.lines > 0 {
					require.Contains(t, said, "records=")
					require.Contains(t, said, "retained=")
				}
			})
		})
	}
}
