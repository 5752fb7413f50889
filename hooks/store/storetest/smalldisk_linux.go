package storetest

import (
	"fmt"
	"syscall"
	"testing"
)

// smallDisk is one in memory that has little room.
type smallDisk struct{ path string }

const (
	smallSize = 64 << 20 // before it is filled
	wideSize  = 256 << 20
)

func (d *smallDisk) setUp(t *testing.T) error {
	d.path = t.TempDir()
	if err := d.mount(0, smallSize); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.path, 0); err != nil {
			t.Errorf("unmount %s: %v", d.path, err)
		}
	})
	return nil
}

func (d *smallDisk) mount(flags uintptr, size uint64) error {
	err := syscall.Mount("tmpfs", d.path, "tmpfs", flags, fmt.Sprintf("size=%d,mode=0700", size))
	if err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	return nil
}

func (d *smallDisk) resize(t *testing.T, size uint64) {
	t.Helper()
	if err := d.mount(syscall.MS_REMOUNT, size); err != nil {
		t.Fatal(err)
	}
}

func (d *smallDisk) dir() string { return d.path }

// fill leaves little room beside what is used.
func (d *smallDisk) fill(t *testing.T, _ *process) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(d.path, &fs); err != nil {
		t.Fatal(err)
	}
	d.resize(t, (fs.Blocks-fs.Bfree)*uint64(fs.Bsize)+roomLeft)
}

func (d *smallDisk) widen(t *testing.T, _ *process) {
	t.Helper()
	d.resize(t, wideSize)
}
