package serve

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/records"
)

// maxPublic is how many digests of public content are kept in memory.
const maxPublic = 1 << 20

// publicContent says which content is public, according to the records.
type publicContent struct {
	records records.Store
	shown   fresh[map[digest.Digest]struct{}] // the digests that the record of any image has as public
	listed  bool                              // the records can be listed
}

func (p *publicContent) init(store records.Store) {
	p.records = store
	if lister, ok := store.(records.Lister); ok {
		p.listed = true
		p.shown.load = func(ctx context.Context) (map[digest.Digest]struct{}, error) { return publicDigests(ctx, lister) }
	}
}

// publicDigests returns the digests that the records of all images have as public.
func publicDigests(ctx context.Context, store records.Lister) (map[digest.Digest]struct{}, error) {
	all := map[digest.Digest]struct{}{}
	for record, err := range store.List(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			continue // a record that cannot be read makes no content public
		}
		for _, access := range record.Names {
			for _, d := range access.Public {
				if len(all) < maxPublic {
					all[d] = struct{}{}
				}
			}
		}
	}
	return all, nil
}

// has reports whether the content with the digest d is public as a part of an image.
// repository is the repository of the image, and leaf is its manifest. Both must hold:
//
//   - The registry of the repository itself said without a credential that it has this
//     image.
//   - The bytes of the content came to this node without a credential, with this image or
//     another image. A manifest alone does not show that, because every author can write any
//     digest into a manifest.
//
// since is the time of the request. Records that pulls have written before that time
// count.
func (p *publicContent) has(ctx context.Context, repository string, leaf ocispec.Descriptor, d digest.Digest, since time.Time) (bool, error) {
	if p.records == nil {
		return false, nil
	}
	record, err := p.records.Record(ctx, string(leaf.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(record.Names[repository].Public) == 0 {
		return false, nil
	}
	for _, access := range record.Names {
		if slices.Contains(access.Public, d) {
			return true, nil
		}
	}
	if !p.listed {
		return false, nil
	}
	shown, err := p.shown.now(ctx)
	if _, ok := shown[d]; err != nil || ok {
		return ok, err
	}
	shown, err = p.shown.since(ctx, since)
	_, ok := shown[d]
	return ok, err
}
