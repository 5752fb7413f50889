//go:build linux

package process

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
)

// Figures is where a broker has its profiles and figures, if it is the profiled
// petrel. The zero value is nowhere.
func (p *Process) Figures() netip.AddrPort { return p.figures }

// Commits is how many batches the broker has put into its store, 0 if it does not
// tell.
func (p *Process) Commits() (uint64, error) {
	if !p.figures.IsValid() {
		return 0, nil
	}
	response, err := http.Get(fmt.Sprintf("http://%v/debug/vars", p.figures))
	if err != nil {
		return 0, fmt.Errorf("ask for the figures of a broker: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var vars struct{ Petrel struct{ StoreCommits uint64 } }
	if err := json.NewDecoder(response.Body).Decode(&vars); err != nil {
		return 0, fmt.Errorf("read the figures of a broker: %w", err)
	}
	return vars.Petrel.StoreCommits, nil
}
