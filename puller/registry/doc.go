// Package registry reads image registries over the OCI distribution API.
package registry
