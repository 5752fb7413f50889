module github.com/petrelmq/petrel/hooks/jwt

go 1.26.0

replace github.com/petrelmq/petrel => ../../

require (
	github.com/golang-jwt/jwt/v5 v5.3.1
	github.com/petrelmq/petrel v0.0.0
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/rs/xid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
