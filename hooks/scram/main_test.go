package scram_test

import (
	"testing"

	"github.com/petrelmq/petrel/internal/brokertest"
)

// TestMain fails the run if goroutines of the tests outlive them.
func TestMain(m *testing.M) { brokertest.Main(m) }
