package ebs

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// tokenLifetime is how long a block token is good.
const tokenLifetime = 7 * 24 * time.Hour

// blockToken is what a block token says.
type blockToken struct {
	Snapshot string    `json:"s"`
	Index    int       `json:"i"`
	Expires  time.Time `json:"e"`
}

// pageToken is where a page begins. It is good for the same listing only.
type pageToken struct {
	Listing string `json:"l"`
	Next    int    `json:"n"`
}

func encode(token any) string {
	text, _ := json.Marshal(token) // plain values
	return base64.StdEncoding.EncodeToString(text)
}

func decode(text string, token any) bool {
	raw, err := base64.StdEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(raw, token) == nil
}

// readable finds a snapshot whose blocks can be read: one that is completed.
func (s Service) readable(region, id string) (catalog.Snapshot, error) {
	if err := snapshotOf(id); err != nil {
		return catalog.Snapshot{}, err
	}
	snapshot, ok := s.Catalog.Snapshot(region, id)
	if !ok {
		return snapshot, catalog.ErrNotFound
	}
	if snapshot.Status != catalog.Completed {
		return snapshot, catalog.ErrNotReady
	}
	return snapshot, nil
}

// page reads where a listing begins and how long it may be.
func page(call wire.Call, listing string) (from, limit int, err error) {
	query := call.Request.URL.Query()
	limit = 100
	if text := query.Get("maxResults"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 100 || limit > 10000 {
			return 0, 0, invalid("INVALID_PARAMETER_VALUE", "maxResults must be between 100 and 10000.")
		}
	}
	if text := query.Get("startingBlockIndex"); text != "" {
		if from, err = strconv.Atoi(text); err != nil || from < 0 {
			return 0, 0, invalid("INVALID_PARAMETER_VALUE", "startingBlockIndex must not be negative.")
		}
	}
	if text := query.Get("pageToken"); text != "" {
		var token pageToken
		if !decode(text, &token) || token.Listing != listing {
			return 0, 0, invalid("INVALID_PAGE_TOKEN", "The page token is invalid.")
		}
		from = max(from, token.Next)
	}
	return from, limit, nil
}

// listing is the fields that both listings answer.
type listing struct {
	BlockSize  int
	VolumeSize int64
	ExpiryTime float64
	NextToken  string `json:",omitempty"`
}

type block struct {
	BlockIndex int
	BlockToken string
}

func (s Service) listBlocks(call wire.Call, id string) (answer, error) {
	snapshot, err := s.readable(call.Region, id)
	if err != nil {
		return answer{}, err
	}
	from, limit, err := page(call, id)
	if err != nil {
		return answer{}, err
	}
	list, err := s.Catalog.Blocks(snapshot, from, limit+1)
	if err != nil {
		return answer{}, err
	}
	expires := s.Catalog.Now().Add(tokenLifetime)
	out := struct {
		listing
		Blocks []block
	}{listing: listing{BlockSize: catalog.BlockSize, VolumeSize: snapshot.VolumeGiB, ExpiryTime: epoch(expires)}, Blocks: []block{}}
	if len(list) > limit {
		out.NextToken, list = encode(pageToken{id, list[limit].Index}), list[:limit]
	}
	for _, b := range list {
		out.Blocks = append(out.Blocks, block{b.Index, encode(blockToken{id, b.Index, expires.UTC()})})
	}
	return answer{status: http.StatusOK, body: out}, nil
}

type changedBlock struct {
	BlockIndex       int
	FirstBlockToken  string `json:",omitempty"`
	SecondBlockToken string `json:",omitempty"`
}

func (s Service) listChanged(call wire.Call, secondID string) (answer, error) {
	second, err := s.readable(call.Region, secondID)
	if err != nil {
		return answer{}, err
	}
	firstID := call.Request.URL.Query().Get("firstSnapshotId")
	from, limit, err := page(call, firstID+"/"+secondID)
	if err != nil {
		return answer{}, err
	}
	var old map[int]catalog.Sum
	if firstID != "" {
		first, err := s.readable(call.Region, firstID)
		if err != nil {
			return answer{}, err
		}
		if !s.related(call.Region, first, second) {
			return answer{}, invalid("UNRELATED_SNAPSHOTS", "The snapshots do not belong to the same lineage.")
		}
		if old, err = s.sums(first); err != nil {
			return answer{}, err
		}
	}
	changed, err := s.Catalog.Blocks(second, from, int(second.VolumeGiB<<30/catalog.BlockSize))
	if err != nil {
		return answer{}, err
	}
	expires := s.Catalog.Now().Add(tokenLifetime).UTC()
	out := struct {
		listing
		ChangedBlocks []changedBlock
	}{listing: listing{BlockSize: catalog.BlockSize, VolumeSize: second.VolumeGiB, ExpiryTime: epoch(expires)}, ChangedBlocks: []changedBlock{}}
	for _, b := range changed {
		was, had := old[b.Index]
		if had && was == b.Sum {
			continue
		}
		if len(out.ChangedBlocks) == limit {
			out.NextToken = encode(pageToken{firstID + "/" + secondID, b.Index})
			break
		}
		c := changedBlock{BlockIndex: b.Index, SecondBlockToken: encode(blockToken{secondID, b.Index, expires})}
		if had {
			c.FirstBlockToken = encode(blockToken{firstID, b.Index, expires})
		}
		out.ChangedBlocks = append(out.ChangedBlocks, c)
	}
	return answer{status: http.StatusOK, body: out}, nil
}

// related tells whether one snapshot descends from the other, or both from a third.
func (s Service) related(region string, a, b catalog.Snapshot) bool {
	ancestor := func(of catalog.Snapshot) string {
		for of.Parent != "" {
			parent, ok := s.Catalog.Snapshot(region, of.Parent)
			if !ok {
				return of.Parent
			}
			of = parent
		}
		return of.ID
	}
	return ancestor(a) == ancestor(b)
}

func (s Service) sums(of catalog.Snapshot) (map[int]catalog.Sum, error) {
	list, err := s.Catalog.Blocks(of, 0, int(of.VolumeGiB<<30/catalog.BlockSize))
	if err != nil {
		return nil, err
	}
	sums := make(map[int]catalog.Sum, len(list))
	for _, b := range list {
		sums[b.Index] = b.Sum
	}
	return sums, nil
}

func (s Service) get(call wire.Call, at path) (answer, error) {
	snapshot, err := s.readable(call.Region, at.snapshot)
	if err != nil {
		return answer{}, err
	}
	index, err := strconv.ParseInt(at.block, 10, 32)
	if err != nil || index < 0 {
		return answer{}, invalid("INVALID_BLOCK", "The block index is not a number.")
	}
	var token blockToken
	text := call.Request.URL.Query().Get("blockToken")
	if !decode(text, &token) || token.Snapshot != at.snapshot || token.Index != int(index) || !s.Catalog.Now().Before(token.Expires) {
		return answer{}, invalid("INVALID_BLOCK_TOKEN", "The block token is invalid or has expired.")
	}
	data, sum, ok, err := s.Catalog.Read(snapshot, int(index))
	if err != nil {
		return answer{}, err
	}
	if !ok {
		return answer{}, invalid("INVALID_BLOCK", "The snapshot has no such block.")
	}
	return answer{status: http.StatusOK, body: data, headers: map[string]string{
		"X-Amz-Data-Length": strconv.Itoa(len(data)), "X-Amz-Checksum": base64.StdEncoding.EncodeToString(sum[:]), "X-Amz-Checksum-Algorithm": "SHA256",
	}}, nil
}
