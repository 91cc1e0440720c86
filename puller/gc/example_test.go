package gc_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/gc"
	"github.com/pullkit/pullkit/puller/layout"
)

// A runtime is the Images of a container runtime. A real one uses the calls ListImages and
// RemoveImage of CRI.
type runtime struct{ images []gc.Image }

func (r *runtime) List(context.Context) ([]gc.Image, error) { return r.images, nil }

func (r *runtime) Remove(_ context.Context, image gc.Image, _ []digest.Digest) (int64, error) {
	for i := range r.images {
		if r.images[i].ID == image.ID {
			r.images = append(r.images[:i:i], r.images[i+1:]...)
			return image.Size, nil
		}
	}
	return 0, nil
}

// threeImages are the images of the examples. They take 300 of 1,000 bytes.
func threeImages() *runtime {
	return &runtime{[]gc.Image{
		{ID: "sha256:1", Names: []string{"registry.example/app:v1"}, Size: 100},
		{ID: "sha256:2", Names: []string{"registry.example/app:v2"}, Size: 100},
		{ID: "sha256:3", Names: []string{"registry.k8s.io/pause:3.10"}, Size: 100, Pinned: true},
	}}
}

// usage returns the Usage of a disk of 1,000 bytes that has these images and 600 other
// bytes.
func (r *runtime) usage(context.Context) (gc.Usage, error) {
	u := gc.Usage{Capacity: 1000, Available: 400}
	for _, image := range r.images {
		u.Available -= image.Size
	}
	return u, nil
}

// Dir returns the directory that the runtime keeps its images in.
func (r *runtime) Dir() string { return "/var/lib/runtime" }

func ExampleImages() {
	var images gc.Images = threeImages()
	list, err := images.List(context.Background())
	fmt.Println(len(list), err)
	// Output: 3 <nil>
}

func ExampleDirectory() {
	var images gc.Images = threeImages()
	if dir, ok := images.(gc.Directory); ok {
		fmt.Println(dir.Dir())
	}
	// Output: /var/lib/runtime
}

func ExampleImage() {
	image := gc.Image{
		ID:    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", // of the manifest, or of the config in CRI
		Names: []string{"docker.io/library/busybox:1.36"},
		Size:  2_200_000,
	}
	fmt.Println(image.Names[0], image.Pinned)
	// Output: docker.io/library/busybox:1.36 false
}

func ExampleFromStore() {
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := layout.Open(dir, layout.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	collector, err := gc.New(gc.Config{Images: gc.FromStore(store), High: 100})
	if err != nil {
		log.Fatal(err)
	}
	defer collector.Close()
	report, err := collector.RemoveUnused(context.Background())
	fmt.Println(len(report.Removed), err)
	// Output: 0 <nil>
}

func ExampleUsage() {
	u := gc.Usage{Capacity: 100 << 30, Available: 14 << 30}
	fmt.Println(u.Percent())
	// Output: 86
}

func ExampleFileSystem() {
	usage, err := gc.FileSystem(os.TempDir())(context.Background())
	if errors.Is(err, errors.ErrUnsupported) {
		usage.Capacity = 1 // set Config.Usage on this system
	}
	fmt.Println(usage.Capacity > 0)
	// Output: true
}

func ExampleConfig() {
	inUse := func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			yield("registry.example/app:v1", nil) // a real program asks its container runtime
		}
	}
	images := threeImages()
	collector, err := gc.New(gc.Config{
		Images: images, Usage: images.usage, InUse: inUse,
		High: 70, Low: 60, MinAge: -1, MaxAge: 7 * 24 * time.Hour, StateDir: os.TempDir() + "/example-gc",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(os.TempDir() + "/example-gc")
	report, err := collector.RemoveUnused(context.Background())
	for _, removed := range report.Removed {
		fmt.Println(removed.Image.Names[0])
	}
	fmt.Println(err)
	// Output:
	// registry.example/app:v2
	// <nil>
}

func ExampleNew() {
	_, err := gc.New(gc.Config{Images: threeImages(), High: 70})
	fmt.Println(err)
	// Output: gc: Config.Low is 80 percent, and Config.High is 70 percent; Low must not be higher than High
}

// newCollector is New for the examples, with a clock that can be set and without a file.
func newCollector(images *runtime, now *time.Time) *gc.Collector {
	*now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	collector, err := gc.New(gc.Config{
		Images: memoryOnly{images}, Usage: images.usage, High: 90, Low: 80, Now: func() time.Time { return *now },
	})
	if err != nil {
		log.Fatal(err)
	}
	return collector
}

type memoryOnly struct{ gc.Images }

func ExampleCollector() {
	var now time.Time
	collector := newCollector(threeImages(), &now)
	defer collector.Close()
	config := puller.Config{ // of the Puller that pulls the images
		Used: func(image puller.Image) { collector.Used(image.ID) },
	}
	config.Used(puller.Image{ID: "sha256:1"})

	now = now.Add(time.Hour)
	config.Used(puller.Image{ID: "sha256:2"})
	report, err := collector.Round(context.Background())
	fmt.Println(report.Removed[0].Image.Names, err)
	// Output: [registry.example/app:v1] <nil>
}

func ExampleReport() {
	var now time.Time
	collector := newCollector(threeImages(), &now)
	defer collector.Close()
	collector.Used("sha256:1")
	now = now.Add(time.Hour)
	report, _ := collector.Round(context.Background())
	fmt.Printf("%d%% were used; %d of %d bytes became free\n", report.Before.Percent(), report.Freed, report.ToFree)
	// Output: 90% were used; 100 of 100 bytes became free
}

func ExampleRemoved() {
	removed := gc.Removed{Image: threeImages().images[0], Reason: gc.ReasonAge, Freed: 100}
	fmt.Printf("image_garbage_collected_total{reason=%q}: %s\n", removed.Reason, removed.Image.Names[0])
	// Output: image_garbage_collected_total{reason="age"}: registry.example/app:v1
}

func ExampleReason() {
	for _, reason := range []gc.Reason{gc.ReasonInUse, gc.ReasonPinned, gc.ReasonYoung} {
		fmt.Println("kept because it is", reason)
	}
	// Output:
	// kept because it is in use
	// kept because it is pinned
	// kept because it is young
}

func ExampleVerdict() {
	v := gc.Verdict{Image: threeImages().images[0], Reason: gc.ReasonSpace, Place: 1, FirstSeen: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
	fmt.Println(v)
	// Output: "registry.example/app:v1": number 1: removed when space is needed (never used, first seen 2026-11-29T12:00:00Z)
}

func ExampleExplanation() {
	var now time.Time
	collector := newCollector(threeImages(), &now)
	defer collector.Close()
	collector.Used("sha256:1")
	now = now.Add(time.Hour)
	explanation, err := collector.Explain(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(explanation.Usage.Percent(), explanation.ToFree)
	for _, verdict := range explanation.Images {
		fmt.Println(verdict)
	}
	// Output:
	// 90 100
	// "registry.example/app:v1": number 1: removed when space is needed (last used 2026-11-29T12:00:00Z)
	// "registry.k8s.io/pause:3.10": kept, because it is pinned (never used, first seen 2026-11-29T13:00:00Z)
	// "registry.example/app:v2": kept until 2026-11-29T13:02:00Z, because it came or was used a short time ago (never used, first seen 2026-11-29T13:00:00Z)
}
