package index_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
)

// body is a registry's answer for a small multi-architecture image.
const body = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":481,"platform":{"os":"linux","architecture":"amd64"},
  "digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"},
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":481,"platform":{"os":"linux","architecture":"arm","variant":"v6"},
  "digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222"},
 {"mediaType":"application/vnd.oci.image.manifest.v1+json","size":838,"platform":{"os":"unknown","architecture":"unknown"},
  "digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333",
  "annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]}`

func example() ocispec.Index {
	doc, err := index.Parse("application/vnd.oci.image.index.v1+json", []byte(body))
	if err != nil {
		panic(err)
	}
	return *doc.Index
}

// A program that fetches manifests itself needs no descriptor for the document that a tag
// points to.
func Example() {
	fetch := func(name string) (mediaType string, data []byte) {
		return "application/vnd.oci.image.index.v1+json", []byte(body) // GET /v2/team/app/manifests/<name>
	}
	doc, err := index.Parse(fetch("v1"))
	if err != nil {
		log.Fatal(err)
	}
	if doc.Index == nil {
		fmt.Println("the tag points to one manifest, for one platform")
		return
	}
	choice, err := index.Selector{}.Select(*doc.Index, ocispec.Platform{OS: "linux", Architecture: "amd64"}) // index.Host() for this machine
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("next: fetch", choice.Descriptor.Digest[:16], "and compare its digest")
	// Output: next: fetch sha256:111111111 and compare its digest
}

func ExampleParse() {
	doc, err := index.Parse("application/vnd.oci.image.index.v1+json; charset=utf-8", []byte(body))
	fmt.Println(doc.MediaType, len(doc.Index.Manifests), err)

	_, err = index.Parse("", []byte(`{"manifests":[],"layers":[]}`))
	fmt.Println(err)
	// Output:
	// application/vnd.oci.image.index.v1+json 3 <nil>
	// bad index: ambiguous: it has the keys of an index and of a manifest
}

func ExampleDocument() {
	doc, err := index.Parse("", []byte(body))
	if err != nil {
		panic(err)
	}
	if doc.Manifest != nil {
		fmt.Println("one image with", len(doc.Manifest.Layers), "layers")
	} else {
		fmt.Println("an index with", len(doc.Index.Manifests), "entries")
	}
	// Output: an index with 3 entries
}

func ExampleSelector_Select() {
	choice, err := index.Selector{}.Select(example(), ocispec.Platform{OS: "linux", Architecture: "amd64"})
	fmt.Println(choice.Descriptor.Digest, choice.Exact, err)

	_, err = index.Selector{}.Select(example(), ocispec.Platform{OS: "linux", Architecture: "riscv64"})
	fmt.Println(err)
	// Output:
	// sha256:1111111111111111111111111111111111111111111111111111111111111111 true <nil>
	// no match for linux/riscv64; available: linux/amd64, linux/arm/v6
}

func ExampleSelector() {
	arm := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	choice, err := index.Selector{}.Select(example(), arm)
	fmt.Println(choice.Descriptor.Platform.Variant, err)

	_, err = index.Selector{Strict: true}.Select(example(), arm)
	fmt.Println(err)
	// Output:
	// v6 <nil>
	// no match for linux/arm/v7; available: linux/amd64, linux/arm/v6
}

func ExampleChoice() {
	choice, err := index.Selector{}.Select(example(), ocispec.Platform{OS: "linux", Architecture: "arm64"})
	if err != nil {
		panic(err)
	}
	if !choice.Exact {
		fmt.Println("32-bit code: an AArch64-only core cannot run", index.FormatPlatform(*choice.Descriptor.Platform))
	}
	// Output: 32-bit code: an AArch64-only core cannot run linux/arm/v6
}

func ExampleSelector_Candidates() {
	for c := range (index.Selector{}).Candidates(example(), ocispec.Platform{OS: "linux", Architecture: "arm64"}) {
		fmt.Println(index.FormatPlatform(*c.Descriptor.Platform), c.Exact)
	}
	// Output: linux/arm/v6 false
}

func ExampleVerdict() {
	for _, v := range (index.Selector{}).Explain(example(), ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}) {
		fmt.Println(index.FormatPlatform(*v.Descriptor.Platform), v.Chosen, v.Reason)
	}
	// Output:
	// linux/amd64 false other architecture
	// linux/arm/v6 true fallback
	// unknown/unknown false attestation
}

func ExampleReason_verdict() {
	for _, v := range (index.Selector{}).Explain(example(), ocispec.Platform{OS: "linux", Architecture: "s390x"}) {
		if v.Reason != index.ReasonAttested {
			fmt.Println(v.Reason)
		}
	}
	// Output:
	// other architecture
	// other architecture
}

func ExampleHost() {
	host := index.Host()
	fmt.Println(host.OS != "" && host.Architecture != "")
	// Output: true
}

func ExampleParsePlatform() {
	p, err := index.ParsePlatform("linux/aarch64/v8")
	fmt.Println(index.FormatPlatform(p), err)

	_, err = index.ParsePlatform("arm64")
	fmt.Println(err)
	_, err = index.ParsePlatform("arm/v7")
	fmt.Println(err)
	// Output:
	// linux/arm64 <nil>
	// platform "arm64": only an OS or only an architecture; write both, such as linux/arm64
	// platform "arm/v7": the OS comes first, and arm is the name of an architecture; write linux/arm/v7
}

func ExampleCompletePlatform() {
	host := ocispec.Platform{OS: "linux", Architecture: "amd64"} // or index.Host()
	p, err := index.CompletePlatform("arm64", host)
	fmt.Println(index.FormatPlatform(p), err)
	// Output: linux/arm64 <nil>
}

func ExamplePlatformError() {
	_, err := index.ParsePlatform("linux/*")
	var bad *index.PlatformError
	if errors.As(err, &bad) {
		fmt.Println(bad.Input, "-", bad.Detail)
	}
	// Output: linux/* - a part between slashes may have letters, digits, _, - and ., and begins with a letter or digit
}

func ExampleFormatPlatform() {
	fmt.Println(index.FormatPlatform(ocispec.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0.20348.2227"}))
	// Output: windows(10.0.20348.2227)/amd64
}

func ExampleNormalize() {
	p := index.Normalize(ocispec.Platform{OS: "Linux", Architecture: "x86_64", Variant: "v1"})
	fmt.Println(index.FormatPlatform(p))
	// Output: linux/amd64
}

func ExampleFallbacks() {
	for _, p := range index.Fallbacks(ocispec.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}) {
		fmt.Println(index.FormatPlatform(p))
	}
	// Output:
	// linux/amd64/v3
	// linux/amd64/v2
	// linux/amd64
	// linux/386
}

func ExampleNoMatchError() {
	_, err := index.Selector{}.Select(example(), ocispec.Platform{OS: "windows", Architecture: "amd64"})
	var none *index.NoMatchError
	if errors.As(err, &none) {
		fmt.Println(len(none.Have), "other platforms:", errors.Is(err, index.ErrNoMatch))
	}
	// Output: 2 other platforms: true
}

func ExampleInvalidError() {
	_, err := index.Parse("", []byte(`{"manifests":[],"Manifests":[]}`))
	var bad *index.InvalidError
	if errors.As(err, &bad) {
		fmt.Println(bad.Reason, "-", bad.Detail)
	}
	// Output: bad manifest - manifests: key in another case at byte 16
}

func ExampleReason() {
	_, err := index.Parse("", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	fmt.Println(errors.Is(err, index.ErrMediaType), errors.Is(err, index.ErrInvalid))
	// Output: true true
}

func ExampleConfigPlatform() {
	p, err := index.ConfigPlatform([]byte(`{"os":"linux","architecture":"arm64","rootfs":{"type":"layers"}}`))
	fmt.Println(index.FormatPlatform(p), err)
	// Output: linux/arm64 <nil>
}

func ExampleResolver_Resolve() {
	manifest := []byte(`{"schemaVersion":2,"config":{"digest":"` + ocispec.DescriptorEmptyJSON.Digest + `","size":2},"layers":[]}`)
	entry := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(manifest), Size: int64(len(manifest)),
		Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
	doc := &index.Document{Index: &ocispec.Index{Manifests: []ocispec.Descriptor{entry}}}
	fetch := func(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
		return manifest, nil // here a registry would be asked
	}
	found, err := index.Resolver{Fetch: fetch}.Resolve(context.Background(), ocispec.Descriptor{}, doc, *entry.Platform)
	fmt.Println(found.Descriptor.Digest == entry.Digest, found.Exact, err)
	// Output: true true <nil>
}

func ExampleResolved() {
	doc, err := index.Parse("", []byte(`{"schemaVersion":2,"config":{"digest":"`+string(ocispec.DescriptorEmptyJSON.Digest)+`","size":2},"layers":[]}`))
	if err != nil {
		panic(err)
	}
	root := ocispec.Descriptor{MediaType: doc.MediaType}
	found, err := index.Resolver{}.Resolve(context.Background(), root, doc, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	fmt.Println("a manifest, no index: compare its config:", found.CheckConfig, err)
	// Output: a manifest, no index: compare its config: true <nil>
}

func ExampleResolver() {
	doc, err := index.Parse("", []byte(`{"schemaVersion":2,"config":{"digest":"`+string(ocispec.DescriptorEmptyJSON.Digest)+`","size":2},"layers":[]}`))
	if err != nil {
		panic(err)
	}
	resolver := index.Resolver{Accept: func(_ context.Context, r index.Resolved) (bool, error) {
		return len(r.Manifest.Layers) > 0, nil // here a signature would be checked
	}}
	_, err = resolver.Resolve(context.Background(), ocispec.Descriptor{}, doc, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	fmt.Println(errors.Is(err, index.ErrNoMatch))
	// Output: true
}
