package pullertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An Image says what image PutImage makes. Equal Images give equal digests.
type Image struct {
	// Platforms has one manifest each in the image's index. Without any there
	// is no index, but one manifest for linux/amd64.
	Platforms []ocispec.Platform
	// Layers are the sizes in bytes of the one file in each layer. The file is
	// random, so that the blob, a gzipped tar, is about 2 KiB larger.
	Layers []int64
	// Seed makes images differ: layers of another seed, platform or position
	// have nothing in common.
	Seed uint64
}

// A PutResult describes what PutImage has put.
type PutResult struct {
	Descriptor ocispec.Descriptor   // what the name points to: the index, or the manifest
	Manifests  []ocispec.Descriptor // one for each platform, Platform set
	Blobs      []ocispec.Descriptor // each manifest's config and layers in turn
}

// PutImage makes an image and stores it under a name such as "team/app:v1".
func (r *Registry) PutImage(name string, image Image) (PutResult, error) {
	platforms := image.Platforms
	if len(platforms) == 0 {
		platforms = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}
	}
	repository, _ := splitName(name)
	var result PutResult
	for i, platform := range platforms {
		manifest, err := r.putPlatform(repository, image, i, platform, &result)
		if err != nil {
			return PutResult{}, fmt.Errorf("image %q: %w", name, err)
		}
		if len(image.Platforms) == 0 {
			result.Descriptor = r.PutManifest(name, ocispec.MediaTypeImageManifest, manifest)
		} else {
			result.Descriptor = r.PutManifest(repository, ocispec.MediaTypeImageManifest, manifest)
		}
		described := result.Descriptor
		described.Platform = &platform
		result.Manifests = append(result.Manifests, described)
	}
	if len(image.Platforms) > 0 {
		data, err := json.Marshal(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: result.Manifests,
		})
		if err != nil {
			return PutResult{}, fmt.Errorf("image %q: %w", name, err)
		}
		result.Descriptor = r.PutManifest(name, ocispec.MediaTypeImageIndex, data)
	}
	return result, nil
}

// putPlatform stores the blobs of one platform and returns its manifest.
func (r *Registry) putPlatform(repository string, image Image, position int, platform ocispec.Platform, result *PutResult) ([]byte, error) {
	var layers []ocispec.Descriptor
	var diffIDs []digest.Digest
	for i, size := range image.Layers {
		if size < 0 {
			return nil, fmt.Errorf("layer %d: size %d", i, size)
		}
		data, diffID, err := gzipTar(size, image.Seed, uint64(position)<<32|uint64(i))
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		layers = append(layers, r.PutBlob(repository, ocispec.MediaTypeImageLayerGzip, data))
		diffIDs = append(diffIDs, diffID)
	}
	created := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	data, err := json.Marshal(ocispec.Image{
		Created:  &created,
		Platform: platform,
		Config:   ocispec.ImageConfig{Env: []string{"SEED=" + strconv.FormatUint(image.Seed, 10)}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	config := r.PutBlob(repository, ocispec.MediaTypeImageConfig, data)
	result.Blobs = append(append(result.Blobs, config), layers...)
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
}

// gzipTar makes a layer with one file of random bytes, and the digest of the
// tar in it. The gzip stream stores without packing: random bytes do not pack,
// and the level costs most of the time.
func gzipTar(size int64, seed, position uint64) (data []byte, diffID digest.Digest, err error) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("data-%d-%d", seed, position), Mode: 0o644, Size: size, Format: tar.FormatPAX}); err != nil {
		return nil, "", err
	}
	if _, err := w.Write(randomBytes(size, seed, position)); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.NoCompression)
	if err != nil {
		return nil, "", err
	}
	if _, err := z.Write(plain.Bytes()); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), sha256Of(plain.Bytes()), nil
}

// randomBytes gives the same bytes for the same numbers, on every machine.
func randomBytes(size int64, seed, position uint64) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
		key[8+i] = byte(position >> (8 * i))
	}
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}
