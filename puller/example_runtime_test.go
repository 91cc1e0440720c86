package puller_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/reference"
)

// A memory is the Runtime of the examples. It keeps the names of images in memory, and an
// image may need a password.
type memory struct {
	passwords map[string]string // by image name; an image without a password is public
	busy      error             // if set, the answer to every pull

	mu     sync.Mutex
	images map[reference.Reference]puller.Image
	asked  int
}

func (m *memory) Status(_ context.Context, spec puller.Spec) (puller.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	img, ok := m.images[spec.Ref]
	if !ok {
		return puller.Image{}, fmt.Errorf("%s: %w", spec.Ref, fs.ErrNotExist)
	}
	return img, nil
}

func (m *memory) Pull(_ context.Context, spec puller.Spec) (puller.Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.busy != nil {
		return puller.Image{}, m.busy
	}
	if m.passwords[spec.Ref.Name()] != spec.Credential.Password.Reveal() && m.passwords[spec.Ref.Name()] != "" {
		return puller.Image{}, fmt.Errorf("401 Unauthorized: %w", fs.ErrPermission)
	}
	m.preload(spec.Ref)
	return m.images[spec.Ref], nil
}

// Plan makes memory a Planner.
func (m *memory) Plan(_ context.Context, spec puller.Spec) (puller.Plan, error) {
	if want := m.passwords[spec.Ref.Name()]; want != "" && want != spec.Credential.Password.Reveal() {
		return puller.Plan{}, fs.ErrPermission
	}
	d := digest.FromString(spec.Ref.String())
	return puller.Plan{Digest: d, Manifest: d, Platform: spec.Platform}, nil
}

// Resolve makes memory a Resolver.
func (m *memory) Resolve(ctx context.Context, spec puller.Spec) (digest.Digest, error) {
	plan, err := m.Plan(ctx, spec)
	return plan.Digest, err
}

func (m *memory) preload(ref reference.Reference) {
	if m.images == nil {
		m.images = map[reference.Reference]puller.Image{}
	}
	d := digest.FromString(ref.String())
	m.images[ref] = puller.Image{Ref: ref, ID: d.String(), Digest: d, Size: 4096}
}

// pullSecret returns the keyring of a Secret with a password for a registry.
func pullSecret(namespace, registry, password string) credentials.PodKeyring {
	doc, err := credentials.DockerConfig{Server: registry, Username: "robot", Password: credentials.Conceal(password)}.JSON()
	if err != nil {
		panic(err)
	}
	return credentials.FromSecrets([]credentials.Secret{credentials.Secret{
		Namespace: namespace, Name: "regcred", UID: "uid-" + namespace, Type: credentials.TypeDockerConfigJSON,
		Data: credentials.ConcealData(map[string][]byte{credentials.KeyDockerConfigJSON: doc}),
	}}, credentials.Rules{})
}

// tempRecords opens records in a new directory, which done removes.
func tempRecords() (recs *records.Dir, done func()) {
	dir, err := os.MkdirTemp("", "records")
	if err != nil {
		panic(err)
	}
	if recs, err = records.Open(dir); err != nil {
		panic(err)
	}
	return recs, func() {
		recs.Close()
		os.RemoveAll(dir)
	}
}

// reason returns how a pull ended, in one word.
func reason(err error) string {
	var e *puller.Error
	if errors.As(err, &e) {
		return string(e.Reason)
	}
	return "ok"
}
