package backup

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// bucketPlace is a Place in S3. An object is there whole or not at all by itself; the SDK
// has S3 check what it receives.
type bucketPlace struct {
	client *s3.Client
	bucket string
	prefix string
}

func (b bucketPlace) key(name string) *string { return aws.String(path.Join(b.prefix, name)) }

func (b bucketPlace) Put(ctx context.Context, name, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	defer file.Close()
	if _, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.bucket, Key: b.key(name), Body: file}); err != nil {
		return fmt.Errorf("store %s in bucket %s: %w", name, b.bucket, err)
	}
	return nil
}

func (b bucketPlace) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	object, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(name)})
	if err != nil {
		return nil, fmt.Errorf("read %s from bucket %s: %w", name, b.bucket, err)
	}
	return object.Body, nil
}

func (b bucketPlace) List(ctx context.Context) ([]string, error) {
	prefix := b.prefix
	if prefix != "" {
		prefix += "/"
	}
	var names []string
	for pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: &prefix}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list bucket %s: %w", b.bucket, err)
		}
		for _, object := range page.Contents {
			names = append(names, strings.TrimPrefix(aws.ToString(object.Key), prefix))
		}
	}
	return names, nil
}

func (b bucketPlace) Delete(ctx context.Context, name string) error {
	if _, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(name)}); err != nil {
		return fmt.Errorf("delete %s from bucket %s: %w", name, b.bucket, err)
	}
	return nil
}
