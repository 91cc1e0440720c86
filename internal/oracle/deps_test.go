package oracle

import (
	_ "github.com/containerd/platforms"
	_ "github.com/distribution/reference"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/stretchr/testify/assert"
	_ "k8s.io/client-go/util/flowcontrol"
	_ "k8s.io/kubernetes/pkg/apis/core/v1"
	_ "k8s.io/kubernetes/pkg/credentialprovider"
	_ "k8s.io/kubernetes/pkg/credentialprovider/plugin"
	_ "k8s.io/kubernetes/pkg/credentialprovider/secrets"
	_ "k8s.io/kubernetes/pkg/kubelet/images"
	_ "k8s.io/kubernetes/pkg/kubelet/images/pullmanager"
	_ "k8s.io/kubernetes/pkg/util/parsers"
	_ "github.com/pullkit/pullkit/internal/verify"
)
