module github.com/petrelmq/petrel

go 1.26.0

require (
	github.com/rs/xid v1.6.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.62.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect
