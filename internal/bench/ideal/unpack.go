package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// unpackedAtATime is how many layers are fetched and unpacked at the same time.
const unpackedAtATime = 2

// A hashed is a reader that hashes what is read.
type hashed struct {
	io.Reader
	hash hash.Hash
}

func newHashed(r io.Reader) hashed {
	h := digest.SHA256.Hash()
	return hashed{io.TeeReader(r, h), h}
}

// rest reads to the end and compares the digest.
func (r hashed) rest(want digest.Digest) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, r.hash); got != want {
		return fmt.Errorf("%s: got %s", want, got)
	}
	return nil
}

// unpack fetches and unpacks all layers.
func (f *fetcher) unpack(ctx context.Context, manifest ocispec.Manifest, dir string) error {
	body, err := f.get(ctx, "/blobs/"+manifest.Config.Digest.String(), "")
	if err != nil {
		return err
	}
	defer body.Close()
	packed := newHashed(io.LimitReader(body, maxManifest))
	var config ocispec.Image
	if err := json.NewDecoder(packed).Decode(&config); err != nil {
		return err
	}
	if err := packed.rest(manifest.Config.Digest); err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return errors.New("the config does not have one diff ID for each layer")
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(unpackedAtATime)
	for i, desc := range manifest.Layers {
		group.Go(func() error {
			return f.layer(ctx, desc, config.RootFS.DiffIDs[i], filepath.Join(dir, "unpacked", strconv.Itoa(i)))
		})
	}
	return group.Wait()
}

// layer fetches a layer, decompresses it and writes its files into a directory of its own. It
// compares the digests of the blob and of the tar.
func (f *fetcher) layer(ctx context.Context, desc ocispec.Descriptor, diffID digest.Digest, dir string) error {
	body, err := f.get(ctx, "/blobs/"+desc.Digest.String(), "")
	if err != nil {
		return err
	}
	defer body.Close()
	packed := newHashed(body)
	gz, err := gzip.NewReader(packed)
	if err != nil {
		return err
	}
	plain := newHashed(gz)
	if err := untar(plain, dir); err != nil {
		return err
	}
	return errors.Join(plain.rest(diffID), packed.rest(desc.Digest))
}

// untar writes the directories and regular files of a tar.
func untar(r io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for archive := tar.NewReader(r); ; {
		head, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch head.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(filepath.Clean(head.Name), 0o755)
		case tar.TypeReg:
			err = writeFile(root, head.Name, archive)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, r io.Reader) error {
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
