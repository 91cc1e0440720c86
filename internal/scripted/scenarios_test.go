package scripted_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/scripted"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// files has each scenario file with the number of its scenarios, so that none is lost.
var files = []struct {
	name      string
	scenarios int
}{
	{"vectors/content.json", 7},
	{"vectors/credentials.json", 27},
	{"vectors/documents.json", 34},
	{"vectors/faults.json", 36},
	{"vectors/limits.json", 8},
	{"vectors/store.json", 10},
	{"scenarios/more.json", 61},
}

func readScenarios(t *testing.T, name string, want int) []scripted.Scenario {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
	require.NoError(t, err)
	scenarios, err := scripted.Parse(data)
	require.NoError(t, err)
	require.Len(t, scenarios, want, name)
	return scenarios
}

// pull pulls with all the built-in parts, as a program would put them together.
func pull(ctx context.Context, job scripted.Job) (err error) {
	log := slog.New(slog.NewTextHandler(job.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	config, err := credentials.ParseFile(job.Config, "config.json", credentials.Rules{})
	if err != nil {
		return err
	}
	settings := registry.Config{DialContext: job.Dial, Logger: log, RootCAs: x509.NewCertPool()}
	settings.RootCAs.AppendCertsFromPEM(job.CA)
	if job.PlainHTTP {
		host, _, _ := strings.Cut(job.Image, "/")
		settings.PlainHTTP = []string{host}
	}
	client, err := registry.New(settings)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	platform, err := index.ParsePlatform(job.Platform)
	if err != nil {
		return err
	}
	store, err := layout.Open(job.Store, layout.Config{})
	if err != nil {
		return err
	}
	defer store.Close()
	rt, err := transfer.New(transfer.Config{Source: client, Store: store, Logger: log})
	if err != nil {
		return err
	}
	p, err := puller.New(puller.Config{
		Runtime:  rt,
		Keyring:  config,
		Platform: platform,
		Logger:   log,
	})
	if err != nil {
		return err
	}
	_, err = p.Pull(ctx, puller.Request{Image: job.Image})
	return err
}

func TestTheBuiltInPartsPassEachScenario(t *testing.T) {
	played := 0
	for _, file := range files {
		for _, sc := range readScenarios(t, file.name, file.scenarios) {
			t.Run(sc.Name, func(t *testing.T) {
				box := t.TempDir()
				synctest.Test(t, func(t *testing.T) {
					// The time in a bubble begins in 2000, and some scenarios have dates before 2026 that must
					// be in the past.
					time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
					assert.NoError(t, scripted.TestScenario(t.Context(), sc, &pullertest.Network{}, box, func(ctx context.Context, job scripted.Job) error {
						err := pull(ctx, job)
						if err != nil && ctx.Err() == nil {
							assert.NotEmpty(t, content.ReasonOf(err), "an error without a reason: %v", err)
						}
						return err
					}))
				})
			})
			played++
		}
	}
	assert.Equal(t, 183, played, "scenarios")
}
