package petrel

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is asked for and not granted is at no moment counted: others would be refused
// room that there is.
func TestMemoryCountsOnlyWhatItGrants(t *testing.T) {
	const rounds = 100_000
	for name, ask := range map[string]func(*memory){
		"grant":   func(m *memory) { m.add(-m.grant(1000)) },
		"reserve": func(m *memory) { m.reserve(1000, AtLeastOnce) },
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{limit: 100}
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				for range rounds {
					ask(m)
				}
			}()
			most := int64(0)
			for running := true; running; {
				select {
				case <-asked:
					running = false
				default:
					most = max(most, m.all.Load())
				}
			}
			require.LessOrEqual(t, most, m.limit)
			require.Zero(t, m.all.Load())
		})
	}
}

// What is granted stays counted until it is spent: others could take it meanwhile.
func TestGrantIsSpentOnce(t *testing.T) {
	m := &memory{limit: 100}
	granted := m.grant(1000)
	require.EqualValues(t, 75, granted, "a quarter is left to what no store has")
	m.spend(&granted, 50)
	require.EqualValues(t, 25, granted)
	require.EqualValues(t, 75, m.all.Load())
	m.spend(&granted, 30)
	require.Zero(t, granted)
	require.EqualValues(t, 80, m.all.Load())
}
