package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/regclient/regclient"
	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/types/ref"
	"github.com/stretchr/testify/require"
)

// imagePullers pull images from a registry on plain http into one OCI layout.
// Only pullkit makes what it writes durable before it returns.
var imagePullers = []struct {
	name string
	pull func(ctx context.Context, host string, names []string, dir string) error
}{
	{"ggcr", pullGGCR}, // what crane does
	{"regclient", pullRegclient},
	{"pullkit", pullPullkit},
}

func pullPullkit(ctx context.Context, host string, names []string, dir string) error {
	store, err := layout.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	client := &registry.Client{PlainHTTP: []string{host}}
	defer client.CloseIdleConnections()
	p, err := puller.New(puller.Config{
		Runtime:  transfer.New(transfer.Config{Store: store, Source: client}),
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Parallel: 16,
	})
	if err != nil {
		return err
	}
	requests := func(yield func(puller.Request) bool) {
		for _, name := range names {
			if !yield(puller.Request{Image: host + "/" + name}) {
				return
			}
		}
	}
	for _, result := range p.PullAll(ctx, requests) {
		if result.Err != nil {
			return result.Err
		}
	}
	return nil
}

func pullGGCR(ctx context.Context, host string, names []string, dir string) error {
	images := map[string]ggcr.Image{}
	for _, name := range names {
		image, err := crane.Pull(host+"/"+name, crane.Insecure, crane.WithContext(ctx))
		if err != nil {
			return err
		}
		images[name] = image
	}
	return crane.MultiSaveOCI(images, dir)
}

func pullRegclient(ctx context.Context, host string, names []string, dir string) error {
	rc := regclient.New(regclient.WithConfigHost(config.Host{Name: host, TLS: config.TLSDisabled}))
	for _, name := range names {
		src, err := ref.New(host + "/" + name)
		if err != nil {
			return err
		}
		dst, err := ref.New("ocidir://" + dir + ":" + strings.NewReplacer("/", "-", ":", "-").Replace(name))
		if err != nil {
			return err
		}
		if err := rc.ImageCopy(ctx, src, dst); err != nil {
			return err
		}
		if err := rc.Close(ctx, dst); err != nil {
			return err
		}
	}
	return nil
}

// TestPullRatios lets all pull in turn from a registry in this process, and
// compares their best rounds. The programs themselves are compared in README.md.
func TestPullRatios(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put := func(name string, seed uint64, layers ...int64) string {
		_, err := reg.PutImage(name, pullertest.Image{Layers: layers, Seed: seed})
		require.NoError(t, err)
		return name
	}
	var tiny []string
	for i := range 100 {
		tiny = append(tiny, put(fmt.Sprintf("tiny:v%d", i), uint64(100+i), 4096))
	}
	for _, c := range []struct {
		name   string
		images []string
		rounds int
	}{
		{"1 x 128 MiB", []string{put("one:v1", 1, 128<<20)}, 5},
		{"8 x 16 MiB", []string{put("eight:v1", 2, slices.Repeat([]int64{16 << 20}, 8)...)}, 5},
		{"50 x 1 MiB", []string{put("fifty:v1", 3, slices.Repeat([]int64{1 << 20}, 50)...)}, 5},
		{"100 tiny images", tiny, 3},
	} {
		best := make([]time.Duration, len(imagePullers))
		for range c.rounds {
			for i, p := range imagePullers {
				dir := filepath.Join(t.TempDir(), "images")
				began := time.Now()
				require.NoError(t, p.pull(t.Context(), reg.Host(), c.images, dir), "%s: %s", c.name, p.name)
				if took := time.Since(began); best[i] == 0 || took < best[i] {
					best[i] = took
				}
			}
		}
		line := fmt.Sprintf("%-16s", c.name)
		for i, p := range imagePullers {
			line += fmt.Sprintf("  %s %.3f s (%.2f)", p.name, best[i].Seconds(), best[i].Seconds()/best[0].Seconds())
		}
		t.Log(line)
	}
}
