"""kaimon: file-activity security for Linux in which every event is accounted for."""
