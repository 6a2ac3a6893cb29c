"""One campaign's life, one verb a file, in the order of the story.

policies > intake > score > plan > release > dispatch > feedback > judge, and beside the stream report, explain and
simulate. Stages never import each other: each can crash, be run again or move to another node alone; what passes
between them is rows of the store or Parquet files of the lake, hence can be looked at.
"""
