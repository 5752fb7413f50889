.PHONY: check bench fuzz interop

# What a change has to pass. .ci/run without arguments runs a little more:
# builds for other systems, the interop tests and all other modules.
check:
	.ci/run format vet staticcheck fuzz race

# The figures of README.md. Compare two versions with benchstat.
bench:
	go test -run '^$$' -bench . -benchmem ./packets ./topics
	go test -run '^$$' -bench . -benchmem -timeout 30m .

fuzz:
	.ci/run fuzz

interop:
	.ci/run clients
	cd interop && CI=true go test -count=1 -v .
