package transfer

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
)

// keepMost is the size of the largest config that is kept for who asked for it.
const keepMost = 64 << 10

// A keep has the config of the image that a pull is at, once it was fetched and if it
// is small: it need not be read back from the Store. It has but one, however many
// blobs a manifest calls configs.
type keep struct {
	of   digest.Digest
	body []byte // nil if there is none
}

// only keeps nothing from now on but the config d.
func (k *keep) only(d digest.Digest) {
	if k.of != d {
		*k = keep{of: d}
	}
}

// landed takes the body out of a flight that succeeded.
func (k *keep) landed(f *flight) {
	if f.config != nil && f.desc.Digest == k.of {
		k.body = f.config
	}
}

// keepConfig keeps what was read, not verified yet, if it is all of a config.
func (t *try) keepConfig(p []byte) {
	if int64(len(p)) == t.desc.Size && len(p) <= keepMost && mediatype.IsConfig(t.desc.MediaType) {
		t.config = slices.Clone(p)
	}
}

// configPlatform is the platform that a config names, which is in the Store, and
// maybe in k.
func (r *Runtime) configPlatform(ctx context.Context, config ocispec.Descriptor, k keep) (ocispec.Platform, error) {
	data := k.body
	if data == nil || k.of != config.Digest {
		var err error
		if data, err = r.stored(ctx, config); err != nil {
			return ocispec.Platform{}, err
		}
	}
	p, err := index.ConfigPlatform(data)
	if err != nil {
		return ocispec.Platform{}, documentError(fmt.Errorf("config %s: %w", config.Digest, err))
	}
	return p, nil
}
