package bench

import (
	_ "github.com/containerd/platforms"
	_ "github.com/distribution/reference"
	_ "github.com/google/go-containerregistry/pkg/name"
	_ "github.com/google/go-containerregistry/pkg/v1/remote"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/pullkit/pullkit/internal/verify"
	_ "github.com/regclient/regclient/types/ref"
	_ "github.com/stretchr/testify/assert"
	_ "k8s.io/kubernetes/pkg/credentialprovider"
	_ "k8s.io/kubernetes/pkg/credentialprovider/secrets"
)
