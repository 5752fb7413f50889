package httpauth_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails the run if goroutines of the tests outlive them.
func TestMain(m *testing.M) {
	code := m.Run()
	leaked := goroutinesLeft()
	for end := time.Now().Add(10 * time.Second); len(leaked) > 0 && time.Now().Before(end); leaked = goroutinesLeft() {
		time.Sleep(10 * time.Millisecond)
	}
	if len(leaked) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines leaked:\n\n%s\n", len(leaked), strings.Join(leaked, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

func goroutinesLeft() (found []string) {
	buf := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
		if !strings.Contains(stack, "testing.(*") {
			found = append(found, stack)
		}
	}
	return found
}
