module github.com/petrelmq/petrel/examples

go 1.26.0

require (
	github.com/petrelmq/petrel v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/rs/xid v1.6.0 // indirect
	golang.org/x/net v0.62.0 // indirect
)

replace github.com/petrelmq/petrel => ../
