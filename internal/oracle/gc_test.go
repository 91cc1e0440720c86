package oracle

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	noopoteltrace "go.opentelemetry.io/otel/trace/noop"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images"
)

var (
	gcStates = flag.Int("gc.states", 1_000_000, "how many rounds of garbage collection are compared")
	gcWrite  = flag.Bool("gc.write", false, "write some of the worlds into the vectors of package gc")
)

// A gcWorld is a policy, and the rounds of garbage collection on a node with this policy. The
// vectors of package gc have the same form.
type gcWorld struct {
	High, Low      int
	MinAge, MaxAge time.Duration
	Rounds         []gcRound
}

// A gcRound is the state of the node in one round, and what the kubelet did in the round.
type gcRound struct {
	After               time.Duration // time from the previous round
	All                 bool          `json:",omitempty"` // DeleteUnusedImages
	Images              []gcImage
	InUse               []string `json:",omitempty"` // by a container
	Mounted             []string `json:",omitempty"` // by an image volume
	ListFails           bool     `json:",omitempty"`
	InUseFails          bool     `json:",omitempty"`
	UsageFails          bool     `json:",omitempty"`
	Capacity, Available int64

	Removed []string `json:",omitempty"` // also those whose removal failed
	Swept   bool     `json:",omitempty"` // the hooks ran
	Failed  bool     `json:",omitempty"`
}

type gcImage struct {
	ID     string
	Size   int64
	Pinned bool `json:",omitempty"`
	Stuck  bool `json:",omitempty"` // its removal fails
}

var errOfTheNode = errors.New("the node does not answer")

// A gcNode is a node with images. The kubelet's manager and the Collector each have one.
type gcNode struct {
	kubecontainer.Runtime
	now     *gcRound
	images  []gcImage
	removed []string
	swept   bool
}

func (n *gcNode) ListImages(context.Context) ([]kubecontainer.Image, error) {
	if n.now.ListFails {
		return nil, errOfTheNode
	}
	var list []kubecontainer.Image
	for _, i := range n.images {
		list = append(list, kubecontainer.Image{ID: i.ID, Size: i.Size, Pinned: i.Pinned})
	}
	return list, nil
}

// GetPods returns a Pod for each image in use, and one Pod for the image volumes.
func (n *gcNode) GetPods(context.Context, bool) ([]*kubecontainer.Pod, error) {
	if n.now.InUseFails && len(n.now.Mounted) == 0 {
		return nil, errOfTheNode
	}
	var pods []*kubecontainer.Pod
	for _, id := range n.now.InUse {
		pods = append(pods, &kubecontainer.Pod{Containers: []*kubecontainer.Container{{ImageID: id}}})
	}
	if len(n.now.Mounted) > 0 {
		pods = append(pods, &kubecontainer.Pod{ID: "mounts", Containers: []*kubecontainer.Container{{ImageID: "of the container"}}})
	}
	return pods, nil
}

func (n *gcNode) GetContainerStatus(_ context.Context, pod types.UID, _ kubecontainer.ContainerID) (*kubecontainer.Status, error) {
	if pod != "mounts" {
		return &kubecontainer.Status{Mounts: []kubecontainer.Mount{{Name: "no image"}}}, nil
	}
	if n.now.InUseFails {
		return nil, errOfTheNode
	}
	status := new(kubecontainer.Status)
	for _, id := range n.now.Mounted {
		status.Mounts = append(status.Mounts, kubecontainer.Mount{Image: &runtimeapi.ImageSpec{Image: id}})
	}
	return status, nil
}

func (n *gcNode) RemoveImage(_ context.Context, spec kubecontainer.ImageSpec) error {
	n.removed = append(n.removed, spec.Image)
	i := slices.IndexFunc(n.images, func(i gcImage) bool { return i.ID == spec.Image })
	if n.images[i].Stuck {
		return errOfTheNode
	}
	n.images = slices.Delete(n.images, i, i+1)
	return nil
}

func (n *gcNode) ImageFsStats(context.Context) (*statsapi.FsStats, *statsapi.FsStats, error) {
	if n.now.UsageFails {
		return nil, nil, errOfTheNode
	}
	capacity, available := uint64(n.now.Capacity), uint64(n.now.Available)
	return &statsapi.FsStats{CapacityBytes: &capacity, AvailableBytes: &available}, nil, nil
}

// List implements gc.Images.
func (n *gcNode) List(context.Context) ([]gc.Image, error) {
	if n.now.ListFails {
		return nil, errOfTheNode
	}
	var list []gc.Image
	for _, i := range n.images {
		list = append(list, gc.Image{ID: i.ID, Size: i.Size, Pinned: i.Pinned})
	}
	return list, nil
}

// Remove implements gc.Images.
func (n *gcNode) Remove(ctx context.Context, image gc.Image, _ []digest.Digest) (int64, error) {
	return 0, n.RemoveImage(ctx, kubecontainer.ImageSpec{Image: image.ID})
}

func (n *gcNode) inUse(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, id := range append(slices.Clone(n.now.InUse), n.now.Mounted...) {
			if !yield(id, nil) {
				return
			}
		}
		if n.now.InUseFails {
			yield("", errOfTheNode)
		}
	}
}

func (n *gcNode) usage(context.Context) (gc.Usage, error) {
	if n.now.UsageFails {
		return gc.Usage{}, errOfTheNode
	}
	return gc.Usage{Capacity: n.now.Capacity, Available: n.now.Available}, nil
}

func (n *gcNode) sweep(context.Context, time.Time, func(string) bool) error {
	n.swept = true
	return nil
}

// TestGarbageCollectionIsTheKubelets runs generated worlds on the kubelet's own image manager and
// on a Collector with AsKubelet. At most one new image of a world appears in a round, because the
// kubelet orders images that it has first seen in the same round by chance.
func TestGarbageCollectionIsTheKubelets(t *testing.T) {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	r := rand.New(rand.NewPCG(11, 12))
	var kept []gcWorld
	count := map[string]int{}
	start := time.Now()
	for count["states"] < *gcStates {
		var world gcWorld
		synctest.Test(t, func(t *testing.T) { world = gcPlay(t, r, count) })
		if *gcWrite && len(kept) < 30 && count["worlds"]%3 == 0 {
			kept = append(kept, world)
		}
		count["worlds"]++
	}
	t.Logf("no difference in %v: %v", time.Since(start).Round(time.Second), count)
	for _, what := range []string{"removed for age", "removed for space", "swept", "failed", "in use", "mounted", "pinned", "young", "all", "error after removals"} {
		assert.Greater(t, count[what], *gcStates/2000, what)
	}
	if *gcWrite {
		text := `{"source":"realImageGCManager of k8s.io/kubernetes v1.37.2 with a fake runtime, by internal/oracle: go test -run GarbageCollection -gc.states 20000 -gc.write","worlds":[` + "\n"
		for i, world := range kept {
			data, err := json.Marshal(world)
			require.NoError(t, err)
			if i > 0 {
				text += ",\n"
			}
			text += string(data)
		}
		require.NoError(t, os.WriteFile(filepath.Join("..", "..", "puller", "gc", "testdata", "vectors", "kubelet.json"), []byte(text+"\n]}\n"), 0o644))
	}
}

func gcPlay(t *testing.T, r *rand.Rand, count map[string]int) gcWorld {
	world := gcWorld{High: r.IntN(101), MinAge: pickOf(r, []time.Duration{0, time.Nanosecond, time.Minute, 2 * time.Minute, time.Hour})}
	world.Low = r.IntN(world.High + 1)
	world.MaxAge = pickOf(r, []time.Duration{0, 0, time.Nanosecond, 10 * time.Minute, 3 * time.Hour, 24 * time.Hour})
	theirs, ours := new(gcNode), new(gcNode)
	manager, err := images.NewImageGCManager(theirs, theirs, []images.PostImageGCHook{func(context.Context, []string, time.Time) { theirs.swept = true }},
		&record.FakeRecorder{}, &v1.ObjectReference{}, images.ImageGCPolicy{
			HighThresholdPercent: world.High, LowThresholdPercent: world.Low, MinAge: world.MinAge, MaxAge: world.MaxAge,
		}, noopoteltrace.NewTracerProvider())
	require.NoError(t, err)
	collector, err := gc.New(gc.Config{
		Images: ours, High: orNone(world.High), Low: orNone(world.Low), MinAge: time.Duration(orNone(int(world.MinAge))), MaxAge: world.MaxAge,
		InUse: ours.inUse, Usage: ours.usage, Sweep: ours.sweep, AsKubelet: true,
	})
	require.NoError(t, err)
	beganGC, made, unseen := time.Now(), 0, false
	for range 5 + r.IntN(40) {
		count["states"]++
		round := gcRound{After: gcPause(r, world), All: r.IntN(8) == 0}
		time.Sleep(round.After)
		if len(ours.images) < 12 && !unseen && r.IntN(3) > 0 { // at most one new image in a round
			made, unseen = made+1, true
			i := gcImage{ID: fmt.Sprintf("image-%d", made), Size: r.Int64N(1 << pickOf(r, []int{1, 20, 34})), Pinned: r.IntN(10) == 0, Stuck: r.IntN(40) == 0}
			theirs.images, ours.images = append(theirs.images, i), append(ours.images, i)
		}
		gcChange(r, theirs, ours)
		round.Images = slices.Clone(ours.images)
		gcState(r, world, &round)
		theirs.now, ours.now = &round, &round
		theirs.removed, theirs.swept, ours.removed, ours.swept = nil, false, nil, false

		unseen = unseen && (round.ListFails || round.InUseFails)
		explained, explainErr := collector.Explain(t.Context())
		var want, got error
		var report gc.Report
		if round.All {
			want = manager.DeleteUnusedImages(t.Context())
			report, got = collector.RemoveUnused(t.Context())
		} else {
			want = manager.GarbageCollect(t.Context(), beganGC)
			report, got = collector.Round(t.Context())
		}
		what := fmt.Sprintf("%+v, %v: theirs %v, ours %v", round, time.Since(beganGC), want, got)
		require.Equal(t, theirs.removed, ours.removed, what)
		require.Equal(t, want == nil, got == nil, what)
		require.Equal(t, theirs.swept, ours.swept, what)
		require.Equal(t, theirs.images, ours.images, what)
		round.Removed, round.Swept, round.Failed = theirs.removed, theirs.swept, want != nil
		world.Rounds = append(world.Rounds, round)
		if explainErr == nil && !round.All {
			gcExplained(t, explained, ours.removed, report, what, count)
		}
		gcCount(round, report, count)
	}
	return world
}

// gcExplained checks that a round removed the images that Explain named before the round, in the
// same order.
func gcExplained(t *testing.T, explained gc.Explanation, removed []string, report gc.Report, what string, count map[string]int) {
	var age, space []string
	for _, v := range explained.Images {
		switch v.Reason {
		case gc.ReasonAge:
			age = append(age, v.Image.ID)
		case gc.ReasonSpace:
			space = append(space, v.Image.ID)
		case gc.ReasonYoung:
			count["young"]++
		}
	}
	require.GreaterOrEqual(t, len(removed), len(age), what)
	require.Equal(t, age, append([]string(nil), removed[:len(age)]...), what)
	rest := removed[len(age):]
	require.GreaterOrEqual(t, len(space), len(rest), what)
	require.Equal(t, append([]string(nil), space[:len(rest)]...), append([]string(nil), rest...), what)
	if report.ToFree > 0 {
		require.Equal(t, explained.ToFree, report.ToFree, what)
	}
}

// gcPause returns a time that often ends exactly at a limit of the policy, or a nanosecond before
// or after it.
func gcPause(r *rand.Rand, world gcWorld) time.Duration {
	limit := pickOf(r, []time.Duration{0, world.MinAge, world.MaxAge, time.Minute, 5 * time.Minute})
	return max(time.Nanosecond, limit+time.Duration(r.IntN(3)-1))
}

// gcChange changes one image of both nodes in the same way: the image goes, or its size, its pin or
// its Stuck changes.
func gcChange(r *rand.Rand, nodes ...*gcNode) {
	if n := len(nodes[0].images); n > 0 {
		i, change, size := r.IntN(n), r.IntN(20), r.Int64N(1<<30)
		for _, node := range nodes {
			switch change {
			case 0:
				node.images = slices.Delete(node.images, i, i+1)
			case 1:
				node.images[i].Size = size
			case 2:
				node.images[i].Pinned = !node.images[i].Pinned
			case 3:
				node.images[i].Stuck = !node.images[i].Stuck
			}
		}
	}
}

// gcState chooses what is in use, how full the disk is, and what fails.
func gcState(r *rand.Rand, world gcWorld, round *gcRound) {
	for _, i := range round.Images {
		switch r.IntN(10) {
		case 0, 1:
			round.InUse = append(round.InUse, i.ID)
		case 2:
			round.Mounted = append(round.Mounted, i.ID)
		}
	}
	if r.IntN(4) == 0 {
		round.InUse = append(round.InUse, "not in the store", "")
	}
	round.ListFails, round.InUseFails, round.UsageFails = r.IntN(40) == 0, r.IntN(40) == 0, r.IntN(40) == 0
	round.Capacity = 1 + r.Int64N(1<<pickOf(r, []int{3, 10, 36, 50}))
	switch r.IntN(6) {
	case 0:
		round.Available = round.Capacity * int64(100-world.High) / 100 // at the threshold
	case 1:
		round.Available = round.Capacity*int64(100-world.Low)/100 - r.Int64N(3)
	case 2:
		round.Available = 0
	default:
		round.Available = r.Int64N(round.Capacity + 1)
	}
	round.Available = max(0, round.Available+int64(r.IntN(3)-1))
	switch r.IntN(60) {
	case 0:
		round.Capacity = 0
	case 1:
		round.Available = round.Capacity * 2
	}
}

func gcCount(round gcRound, report gc.Report, count map[string]int) {
	for _, removed := range report.Removed {
		count["removed for "+string(removed.Reason)]++
	}
	for _, i := range round.Images {
		if i.Pinned {
			count["pinned"]++
		}
	}
	count["in use"] += len(round.InUse)
	count["mounted"] += len(round.Mounted)
	for what, is := range map[string]bool{"swept": round.Swept, "failed": round.Failed, "all": round.All, "error after removals": round.Failed && len(round.Removed) > 0} {
		if is {
			count[what]++
		}
	}
}

// orNone returns n for a field of gc.Config in which 0 means the default and -1 means zero.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}
