package hostile

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
)

// FuzzSessions runs programs of operations of several clients against the model.
func FuzzSessions(f *testing.F) {
	for seed := range uint64(50) {
		f.Add(randomProgram(seed))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		synctest.Test(t, func(t *testing.T) { run(t, program) })
	})
}

// seedVariable names in the environment a seed to be run alone.
const seedVariable = "PETREL_HOSTILE_SEED"

// TestRandomSessions runs programs of random bytes.
func TestRandomSessions(t *testing.T) {
	first, n := uint64(rand.Uint32()), uint64(400)
	if s := os.Getenv(seedVariable); s != "" {
		var err error
		if first, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
		n = 1
	}
	for seed := first; seed < first+n; seed++ {
		program := randomProgram(seed)
		ok := t.Run("", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { run(t, program) }) })
		if !ok {
			t.Errorf("%s=%d runs it again", seedVariable, seed)
		}
	}
}

func randomProgram(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	program := make([]byte, 20+r.IntN(500))
	for i := range program {
		program[i] = byte(r.Uint32())
	}
	return program
}
