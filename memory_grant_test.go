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
