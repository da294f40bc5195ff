package imds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Events are what is about to happen to the instance.
type Events struct {
	Spot        *SpotAction   // nil: no interruption
	Rebalance   time.Time     // when EC2 recommended it; zero: it has not
	Maintenance []Maintenance // that is not done or cancelled
	// TargetState is the state that Auto Scaling takes the instance to: "InService",
	// "Terminated", "Warmed:Stopped"; empty when it is in no group.
	TargetState string
}

// SpotAction is what happens to a Spot instance, and when.
type SpotAction struct {
	Action string    `json:"action"` // "terminate", "stop", "hibernate"
	Time   time.Time `json:"time"`
}

// Maintenance is a scheduled event.
type Maintenance struct {
	ID        string
	Code      string // "system-reboot", "instance-retirement"
	NotBefore time.Time
}

// notBefore is how the service writes the times of scheduled events.
const notBefore = "2 Jan 2006 15:04:05 MST"

// Events returns what is about to happen to the instance.
func (c *Client) Events(ctx context.Context) (Events, error) {
	var events Events
	var rebalance struct {
		NoticeTime time.Time `json:"noticeTime"`
	}
	var maintenance []struct {
		ID        string `json:"EventId"`
		Code      string `json:"Code"`
		State     string `json:"State"`
		NotBefore string `json:"NotBefore"`
	}
	for path, into := range map[string]any{
		"spot/instance-action":             &events.Spot,
		"events/recommendations/rebalance": &rebalance,
		"events/maintenance/scheduled":     &maintenance,
	} {
		text, err := c.get(ctx, path)
		if errors.Is(err, errNotThere) || err == nil && text == "" {
			continue
		}
		if err == nil {
			err = json.Unmarshal([]byte(text), into)
		}
		if err != nil {
			return Events{}, fmt.Errorf("instance metadata %s: %w", path, err)
		}
	}
	events.Rebalance = rebalance.NoticeTime
	for _, event := range maintenance {
		if event.State != "active" {
			continue
		}
		at, err := time.Parse(notBefore, event.NotBefore)
		if err != nil {
			return Events{}, fmt.Errorf("instance metadata events/maintenance/scheduled: NotBefore of %s: %w", event.ID, err)
		}
		events.Maintenance = append(events.Maintenance, Maintenance{ID: event.ID, Code: event.Code, NotBefore: at})
	}
	var err error
	events.TargetState, err = c.TargetState(ctx)
	return events, err
}

// TargetState returns the state that Auto Scaling takes the instance to, "" when it is in
// no group.
func (c *Client) TargetState(ctx context.Context) (string, error) {
	state, err := c.get(ctx, "autoscaling/target-lifecycle-state")
	if errors.Is(err, errNotThere) {
		return "", nil
	}
	return state, err
}
