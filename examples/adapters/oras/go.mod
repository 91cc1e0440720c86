module github.com/pullkit/pullkit/examples/adapters/oras

go 1.26.0

require (
	github.com/opencontainers/image-spec v1.1.1
	github.com/pullkit/pullkit v0.0.0
	github.com/stretchr/testify v1.12.1
	oras.land/oras-go/v2 v2.7.0
)

require (
	github.com/gobwas/glob v1.1.0 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sync v0.24.0 // indirect
	sigs.k8s.io/yaml v1.6.0 // indirect
)

replace github.com/pullkit/pullkit => ../../..
