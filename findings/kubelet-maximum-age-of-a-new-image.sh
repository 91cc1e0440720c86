#!/usr/bin/env bash
# With imageMaximumGCAge, the garbage collection of Kubernetes 1.37.2 removes an image that was
# pulled before its first use, although the image is younger than imageMinimumGCAge.
#
# The reference of the kubelet's configuration says that imageMinimumGCAge is "the minimum
# age for an unused image before it is garbage collected", and imageMaximumGCAge "the maximum
# age an image can be unused before it is garbage collected". The kubelet compares the maximum
# age with the last use. For an image that no container has used yet, the last use is the zero
# time. The kubelet does not look at the minimum age in this comparison. So when the kubelet
# has run for longer than the maximum age, the next round removes each image that no container
# has used yet.
#
# In this script such an image is removed one second after it came, with a minimum age of two
# minutes, a maximum age of a day, and a disk that is 10 % full. An image that was used once,
# and then not for 23 hours, stays. To keep images that are pulled before their first use, pin
# them in the runtime, or start a container of each.
#
# The script needs Go and its module proxy. It exits with 0 as long as the kubelet's code
# behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
mod=$(GOFLAGS=-mod=mod go mod download -json k8s.io/kubernetes@v1.37.2 | sed -n 's/.*"GoMod": "\(.*\)",/\1/p')
{
	printf 'module finding\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.37.2\n\nreplace (\n'
	grep -oE 'k8s\.io/[a-z-]+ => \./staging' "$mod" | awk '{print "\t"$1" => "$1" v0.37.2"}' | sort -u
	echo ')'
} >go.mod
cat >gc_test.go <<'EOF'
package finding

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	containertest "k8s.io/kubernetes/pkg/kubelet/container/testing"
	"k8s.io/kubernetes/pkg/kubelet/images"
)

type disk struct{}

func (disk) ImageFsStats(context.Context) (*statsapi.FsStats, *statsapi.FsStats, error) {
	capacity, available := uint64(1000), uint64(900)
	return &statsapi.FsStats{CapacityBytes: &capacity, AvailableBytes: &available}, nil, nil
}

func Test(t *testing.T) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	synctest.Test(t, func(t *testing.T) {
		runtime := &containertest.FakeRuntime{T: t, ImageList: []kubecontainer.Image{{ID: "old", Size: 10}}}
		runtime.AllPodList = []*containertest.FakePod{{Pod: &kubecontainer.Pod{Containers: []*kubecontainer.Container{{ImageID: "old"}}}}}
		manager, err := images.NewImageGCManager(runtime, disk{}, nil, &record.FakeRecorder{}, &v1.ObjectReference{},
			images.ImageGCPolicy{HighThresholdPercent: 85, LowThresholdPercent: 80, MinAge: 2 * time.Minute, MaxAge: 24 * time.Hour}, noop.NewTracerProvider())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		round := func() {
			err := manager.GarbageCollect(t.Context(), began)
			var left []string
			for _, image := range runtime.ImageList {
				left = append(left, image.ID)
			}
			slices.Sort(left)
			fmt.Println(time.Since(began), "images left:", left, "error:", err)
		}
		time.Sleep(2 * time.Hour)
		round() // "old" is used
		runtime.AllPodList = nil
		time.Sleep(23*time.Hour - time.Second)
		runtime.ImageList = append(runtime.ImageList, kubecontainer.Image{ID: "pulled ahead", Size: 10})
		time.Sleep(time.Second)
		round()
	})
}
EOF
export GOFLAGS=-mod=mod # go mod tidy would fetch the modules of all tests of Kubernetes
go test -count=1 -v . >all 2>&1 || { cat all; exit 1; }
grep 'images left' all >got
cat >want <<'EOF'
2h0m0s images left: [old] error: <nil>
25h0m0s images left: [old] error: <nil>
EOF
diff -u want got
cat got
