package storetest_test

import (
	"sync"
	"testing"

	"github.com/petrelmq/petrel"
	"github.com/petrelmq/petrel/hooks/store/storetest"
)

// The store in memory passes the suite but for what a directory is copied for.
func TestMemory(t *testing.T) {
	var mu sync.Mutex
	disks := make(map[string]*storetest.Disk)
	storetest.RunInMemory(t, func(dir string) (petrel.Store, error) {
		mu.Lock()
		defer mu.Unlock()
		if disks[dir] == nil {
			disks[dir] = storetest.NewDisk()
		}
		return disks[dir].Open()
	})
}
