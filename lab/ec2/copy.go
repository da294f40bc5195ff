package ec2

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
)

// kmsKey is an ARN of a key, or of an alias; others name one of the caller's own region.
var (
	kmsARN = regexp.MustCompile(`^arn:[a-z-]+:kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/.+$`)
	kmsKey = regexp.MustCompile(`^(?:alias/[a-zA-Z0-9/_-]+|(?:mrk-)?[0-9a-f-]{32,36})$`)
)

// encryption reads how a copy is to be encrypted.
func (s Service) encryption(p *params) (encrypt bool, key string) {
	encrypt, key = p.boolean("Encrypted"), p.text("KmsKeyId")
	if key == "" {
		return encrypt, ""
	}
	arn := kmsARN.FindStringSubmatch(key)
	switch {
	case !encrypt:
		p.fail(invalid("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."))
	case arn != nil && arn[1] != s.Plan.Region:
		p.fail(invalid("InvalidParameterValue", "The KMS key %s is not of the region %s", key, s.Plan.Region))
	case arn == nil && !kmsKey.MatchString(key):
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter KmsKeyId is invalid.", key))
	case arn == nil && strings.HasPrefix(key, "alias/"):
		key = fmt.Sprintf("arn:%s:kms:%s:%s:%s", s.Plan.Partition, s.Plan.Region, s.Plan.Account, key)
	case arn == nil:
		key = fmt.Sprintf("arn:%s:kms:%s:%s:key/%s", s.Plan.Partition, s.Plan.Region, s.Plan.Account, key)
	}
	return encrypt, key
}

// sourceRegion reads the region that a copy is made from.
func (s Service) sourceRegion(p *params) string {
	region := p.required("SourceRegion")
	if region != "" && !s.Catalog.HasRegion(region) {
		p.fail(invalid("InvalidParameterValue", "The region %s is invalid: the lab has %s", region, strings.Join(s.Catalog.Regions, ", ")))
	}
	return region
}

func (s Service) copyImage(p *params) (any, error) {
	order := catalog.Image{
		Region: s.Plan.Region, Name: p.imageName(), Description: p.description(), Token: p.text("ClientToken"), Digest: digest(p),
	}
	id, from, tags := p.imageID("SourceImageId"), s.sourceRegion(p), p.tags("image", "snapshot")
	encrypt, key := s.encryption(p)
	withTags := p.boolean("CopyImageTags")
	if err := p.done(); err != nil {
		return nil, err
	}
	order.Tags = map[string]string{}
	if of, ok := s.Catalog.Image(from, id); ok && withTags {
		for name, value := range of.Tags {
			order.Tags[name] = value
		}
	}
	for name, value := range tags["image"] {
		order.Tags[name] = value
	}
	image, err := s.Catalog.CopyImage(from, id, order, encrypt, key, tags["snapshot"])
	var snapshot *catalog.SnapshotError
	switch {
	case err == nil:
		return newImage(p, "CopyImage", image.ID), nil
	case errors.Is(err, catalog.ErrNotFound) && !errors.As(err, &snapshot):
		return nil, noImage(id)
	case errors.Is(err, catalog.ErrNotReady):
		return nil, invalid("InvalidAMIID.Unavailable", "The image ID '%s' is not available", id)
	case errors.Is(err, catalog.ErrTokenReused):
		return nil, tokenReused()
	}
	return nil, refusedImage(order.Name, err)
}

type copySnapshotResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CopySnapshotResponse"`
	RequestID string   `xml:"requestId"`
	ID        string   `xml:"snapshotId"`
	Tags      []tag    `xml:"tagSet>item"`
}

func (s Service) copySnapshot(p *params) (any, error) {
	id, from := p.snapshotID("SourceSnapshotId"), s.sourceRegion(p)
	order := catalog.Snapshot{Region: s.Plan.Region, Description: p.description(), Tags: p.tags("snapshot")["snapshot"]}
	order.Encrypted, order.KMSKey = s.encryption(p)
	s.checkPresigned(p, id, from)
	if err := p.done(); err != nil {
		return nil, err
	}
	snapshot, err := s.Catalog.CopySnapshot(from, id, order)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil, noSnapshot(id)
	case errors.Is(err, catalog.ErrNotReady):
		return nil, invalid("IncorrectState", "Snapshot %s is in invalid state - pending", id)
	case err != nil:
		return nil, err
	}
	return copySnapshotResponse{RequestID: p.id, ID: snapshot.ID, Tags: tagItems(snapshot.Tags)}, nil
}

// checkPresigned reads the permission to copy that the caller has signed for the source
// region. The SDKs make it.
func (s Service) checkPresigned(p *params, id, from string) {
	if to := p.text("DestinationRegion"); to != "" && to != s.Plan.Region {
		p.fail(invalid("InvalidParameterValue", "The destination region %s is not the region of the request, %s", to, s.Plan.Region))
	}
	text := p.text("PresignedUrl")
	if text == "" {
		return
	}
	link, err := url.Parse(text)
	if err != nil {
		p.fail(invalid("InvalidParameterValue", "The presigned URL cannot be read"))
		return
	}
	q := link.Query()
	if q.Get("SourceSnapshotId") != id || q.Get("SourceRegion") != from || q.Get("DestinationRegion") != s.Plan.Region || q.Get("Action") != "CopySnapshot" {
		p.fail(invalid("InvalidParameterValue", "The presigned URL is for another request"))
		return
	}
	r, err := http.NewRequest(http.MethodGet, text, nil) //nolint:noctx // never sent
	if err == nil && s.Presigned != nil {
		err = s.Presigned(r, from)
	}
	if err != nil {
		p.fail(invalid("InvalidParameterValue", "The presigned URL is not signed as it must be: %v", err))
	}
}
