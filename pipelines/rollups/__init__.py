"""What a day comes to: activity and completeness by hour."""
